package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// ErrCorrupt means that a slot's bytes are not those that were written.
var ErrCorrupt = errors.New("disk tier: checksum mismatch")

const (
	// slotsAt is where the slots begin: after the superblock's page.
	slotsAt = host.Align
	// syncPeriod is how much may be lost when the machine dies. A device flushes
	// its cache for every sync, and does nothing else meanwhile.
	syncPeriod = time.Second
)

// Options are what a Store is opened with.
type Options struct {
	Dir         string
	Bytes       int64 // of the slab
	BlockBytes  int
	Fingerprint kv.Hash // of the layout; a slab of another one is started afresh
	Log         *slog.Logger

	// wrap puts faults between the store and a file, in tests.
	wrap func(name string, f *os.File) file
	// quiet leaves out what happens in the background, in tests.
	quiet bool
}

// CheckSize tells whether a slab of the given size can hold a block.
func CheckSize(bytes int64, blockBytes int) error {
	if need := int64(slotsAt + host.Stride(blockBytes)); bytes < need {
		return fmt.Errorf("disk tier: a slab of %d bytes holds no block of %d bytes: give it at least %d", bytes, blockBytes, need)
	}
	return nil
}

// Capacity is how many blocks a slab of the given size holds.
func Capacity(bytes int64, blockBytes int) int {
	return int((bytes - slotsAt) / int64(host.Stride(blockBytes)))
}

// MayPass reports whether an error of Open is a state of the disk, which may
// pass, and not a mistake in the settings.
func MayPass(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Store is an open slab.
type Store struct {
	log        *slog.Logger
	lock       *os.File
	slab       file
	direct     bool
	blockBytes int
	stride     int
	capacity   int
	skipped    int
	journal    journal
	prewrite   prewriter
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// Open opens the slab in a folder, or makes it, and says which blocks it
// holds, in the order in which they were written.
func Open(o Options) (*Store, []policy.Held, error) {
	if err := CheckSize(o.Bytes, o.BlockBytes); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("disk tier: %w; give it a folder that this user may write to", err)
	}
	if o.wrap == nil {
		o.wrap = func(_ string, f *os.File) file { return osFile{f} }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	stride := host.Stride(o.BlockBytes)
	s := &Store{log: o.Log, blockBytes: o.BlockBytes, stride: stride, capacity: Capacity(o.Bytes, o.BlockBytes)}
	if err := s.open(o); err != nil {
		return nil, nil, errors.Join(err, s.closeFiles())
	}
	slots := inOrder(s.journal.live)
	found := make([]policy.Held, len(slots))
	for i, slot := range slots {
		found[i] = policy.Held{Slot: policy.Slot(slot), Block: s.journal.live[slot].block}
	}
	s.log.Info("disk tier open", "path", o.Dir, "slots", s.capacity, "blocks_found", len(found), "direct_io", s.direct)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if o.quiet {
		return s, found, nil
	}
	s.wg.Go(func() { s.syncLoop(ctx) })
	if s.direct {
		s.wg.Go(func() { s.prewrite.run(ctx) })
	}
	return s, found, nil
}

func (s *Store) open(o Options) (err error) {
	if s.lock, err = lockFolder(filepath.Join(o.Dir, "lock")); err != nil {
		return err
	}
	raw, direct, err := openDirect(filepath.Join(o.Dir, "slab"))
	if err != nil {
		return fmt.Errorf("disk tier: %w", err)
	}
	s.slab, s.direct = o.wrap("slab", raw), direct
	head, known, err := s.superblock(raw, o)
	if err != nil {
		return err
	}
	size := slotsAt + int64(s.capacity)*int64(s.stride)
	if full, err := allocate(raw, size); err != nil {
		return fmt.Errorf("disk tier: make room for %d bytes: %w", size, err)
	} else if full {
		s.log.Warn("the disk is too full for the slab; blocks are kept as far as they fit", "path", o.Dir, "bytes", size)
	}
	s.journal = journal{dir: o.Dir, wrap: o.wrap, head: head, live: make([]record, s.capacity)}
	if known {
		if err := s.recover(); err != nil {
			return err
		}
	}
	if s.journal.f == nil {
		s.journal.head.counter = rand.Uint64() >> 1
		if err := s.journal.checkpoint(); err != nil {
			return err
		}
	}
	s.prewrite = prewriter{s: s, head: head, used: make([]bool, s.capacity)}
	for i, r := range s.journal.live {
		s.prewrite.used[i] = r.seq != 0
	}
	return nil
}

// superblock reads the slab's, or writes a new one when there is none of this
// layout. It settles whether O_DIRECT works.
func (s *Store) superblock(raw *os.File, o Options) (head header, known bool, err error) {
	page := host.Aligned(slotsAt)
	n, err := raw.ReadAt(page, 0)
	if errors.Is(err, unix.EINVAL) && s.direct {
		s.direct = false
		if err = undirect(raw); err == nil {
			n, err = raw.ReadAt(page, 0)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return head, false, fmt.Errorf("disk tier: superblock: %w", err)
	}
	head, ok := parseHeader(page[:n], slabMagic)
	if ok && head.blockBytes == uint32(o.BlockBytes) && head.fingerprint == o.Fingerprint {
		return head, true, nil
	}
	if n > 0 {
		s.log.Warn("the slab is of another model or layout, or damaged; it is started afresh", "path", o.Dir)
	}
	head = header{blockBytes: uint32(o.BlockBytes), fingerprint: o.Fingerprint, slabID: rand.Uint64()}
	return head, false, s.writeSuperblock(head)
}

func (s *Store) writeSuperblock(head header) error {
	page := host.Aligned(slotsAt)
	copy(page, head.encode(slabMagic))
	if _, err := s.slab.WriteAt(page, 0); err != nil {
		return fmt.Errorf("disk tier: superblock: %w", err)
	}
	return nil
}

// recover opens the slab's journal and replays it. A journal that does not
// belong to the slab, or is absent, leaves j.f nil: the slab is empty.
func (s *Store) recover() error {
	j := &s.journal
	raw, err := os.OpenFile(j.path(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("disk tier: %w", err)
	}
	b := make([]byte, headerBytes)
	n, _ := io.ReadFull(raw, b)
	head, ok := parseHeader(b[:n], journalMagic)
	if !ok || head.slabID != j.head.slabID || head.fingerprint != j.head.fingerprint {
		s.log.Warn("the journal is damaged or of another slab; the slab starts empty", "path", j.dir)
		s.skipped++
		return raw.Close()
	}
	got, err := replay(raw, head.seed(), s.capacity, uint32(s.blockBytes))
	if err != nil {
		return errors.Join(fmt.Errorf("disk tier: journal: %w", err), raw.Close())
	}
	j.f, j.head, j.seed, j.off = j.wrap("journal", raw), head, head.seed(), got.size
	j.live, j.lastSeq = got.live, got.lastSeq
	j.limit = journalLimit(s.capacity)
	s.skipped = got.skipped
	if got.skipped > 0 {
		s.log.Warn("journal records were skipped", "path", j.dir, "records", got.skipped)
		return j.checkpoint()
	}
	return nil
}

// Capacity is the number of slots.
func (s *Store) Capacity() int { return s.capacity }

// Skipped is how many records of the journal did not check when the slab was
// opened. Each is at worst a block that is missed.
func (s *Store) Skipped() int { return s.skipped }

// Direct reports whether the slab is read and written with O_DIRECT.
func (s *Store) Direct() bool { return s.direct }

func (s *Store) offset(slot policy.Slot) int64 { return slotsAt + int64(slot)*int64(s.stride) }

// Write puts a block into a slot and then says so in the journal. data is a
// host slot: a stride of aligned memory.
func (s *Store) Write(slot policy.Slot, b kv.Block, data []byte) error {
	s.prewrite.claim(slot)
	sum := xxh3.Hash(data[:s.blockBytes])
	if _, err := s.slab.WriteAt(data[:s.stride], s.offset(slot)); err != nil {
		return fmt.Errorf("disk tier: write: %w", err)
	}
	return s.journal.append(record{kind: kindCommit, slot: uint32(slot), block: b, sum: sum, length: uint32(s.blockBytes)})
}

// Read gets a slot's block into a host slot, and verifies it.
func (s *Store) Read(slot policy.Slot, dst []byte) error {
	rec, ok := s.journal.find(uint32(slot))
	if !ok {
		return fmt.Errorf("disk tier: slot %d holds nothing", slot)
	}
	if _, err := s.slab.ReadAt(dst[:s.stride], s.offset(slot)); err != nil {
		return fmt.Errorf("disk tier: read: %w", err)
	}
	if xxh3.Hash(dst[:s.blockBytes]) != rec.sum {
		return ErrCorrupt
	}
	return nil
}

// Tombstone says in the journal that a slot holds nothing any more.
func (s *Store) Tombstone(slot policy.Slot) error {
	err := s.journal.append(record{kind: kindTombstone, slot: uint32(slot)})
	if err != nil {
		s.journal.forget(uint32(slot))
	}
	return err
}

// Sync makes what was written survive the death of the machine.
func (s *Store) Sync() error {
	s.journal.mu.Lock()
	dirty := s.journal.dirty
	s.journal.mu.Unlock()
	if !dirty {
		return nil
	}
	return errors.Join(s.slab.Sync(), s.journal.sync())
}

func (s *Store) syncLoop(ctx context.Context) {
	tick := time.NewTicker(syncPeriod)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.Sync()
		if err != nil && !failing {
			s.log.Warn("disk tier: fdatasync fails; blocks may not survive a crash of the machine", "err", err)
		}
		failing = err != nil
	}
}

// Close writes a checkpoint and lets the folder go.
func (s *Store) Close() error {
	s.cancel()
	s.wg.Wait()
	s.journal.mu.Lock()
	err := s.journal.checkpoint()
	s.journal.mu.Unlock()
	return errors.Join(err, s.slab.Sync(), s.closeFiles())
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.journal.f != nil {
		errs = append(errs, s.journal.f.Close())
	}
	if s.slab != nil {
		errs = append(errs, s.slab.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
