package kvbm

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/disk"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// diskTier is one table over the slabs of one or more devices, each a part of
// it. A block goes to the device with the most room and, when none has any, takes
// the place of the one that can best be spared on any.
type diskTier struct {
	table     *policy.Table
	devices   []*device
	admission policy.Admission
}

// device is one slab. Its directions fail apart: a disk that became read-only
// still serves what it has.
type device struct {
	path  string
	store diskStore // nil while it cannot be opened
	open  func() (diskStore, []policy.Held, error)
	first policy.Slot // its first slot in the table
	sides [2]health   // by direction
	// skipped counts journal records that did not check when it was opened.
	skipped int
	written uint64 // bytes
}

type direction int

const (
	reading direction = iota
	writing
)

// diskSide is one direction of all devices: a link's store.
type diskSide struct {
	tier *diskTier
	dir  direction
}

func (s diskSide) usable(now time.Time) bool { return s.tier.usable(s.dir, now) != 0 }

func (s diskSide) up() bool {
	for _, d := range s.tier.devices {
		if d.store == nil || !d.sides[s.dir].Closed() {
			return false
		}
	}
	return true
}

// diskStore is a disk.Store, or one with faults in a test.
type diskStore interface {
	Write(policy.Slot, kv.Block, []byte) error
	Read(policy.Slot, []byte) error
	Tombstone(policy.Slot) error
	Skipped() int
	Close() error
}

// openDisks opens every device. One that cannot be used now (broken, full,
// read-only) is tried again later; one that is set up wrong is an error.
func (m *Manager) openDisks(c Config) error {
	capacity := disk.Capacity(c.Disk.Bytes, m.blockBytes)
	t := &diskTier{}
	var parts []int
	for i, path := range c.Disk.Paths {
		d := &device{path: path, first: policy.Slot(i * capacity)}
		d.sides[reading], d.sides[writing] = m.newHealth("reading "+path), m.newHealth("writing "+path)
		d.open = func() (diskStore, []policy.Held, error) {
			s, found, err := disk.Open(disk.Options{
				Dir: path, Bytes: c.Disk.Bytes, BlockBytes: m.blockBytes,
				Fingerprint: c.Layout.Fingerprint(), Log: c.Log,
			})
			if err != nil {
				return nil, nil, err
			}
			return s, found, nil
		}
		t.devices, parts = append(t.devices, d), append(parts, capacity)
	}
	t.table = policy.NewTable(c.eviction(), parts...)
	perDay := c.Disk.WriteBytesPerDay * int64(len(t.devices))
	t.admission = policy.NewAdmission(perDay, m.blockBytes, 2*t.table.Capacity())
	m.disk = t
	for _, d := range t.devices {
		store, found, err := d.open()
		switch {
		case err == nil:
			m.joined(d, store, found)
		case disk.MayPass(err):
			m.log.Warn("a disk cannot be used; it is tried again", "path", d.path, "err", err)
			d.sides[writing].trip(m.now())
		default:
			return err
		}
	}
	return nil
}

// joined adds a device's blocks to the tier.
func (m *Manager) joined(d *device, store diskStore, found []policy.Held) {
	d.store = store
	d.skipped += store.Skipped()
	for i := range found {
		found[i].Slot += d.first
	}
	m.disk.table.Restore(found)
}

// reopen tries again to open the devices that could not be used. It is called by
// the janitor, without mu, which alone changes a device's store after Open.
func (m *Manager) reopen() {
	if m.disk == nil {
		return
	}
	for _, d := range m.disk.devices {
		m.mu.Lock()
		try := d.store == nil && !m.closing && d.sides[writing].Allow(m.now())
		m.mu.Unlock()
		if !try {
			continue
		}
		store, found, err := d.open()
		m.mu.Lock()
		if err != nil {
			d.sides[writing].broke(err)
		} else {
			d.sides[writing].works()
			m.joined(d, store, found)
			for _, h := range found {
				if m.disk.table.State(h.Slot) == policy.Committed && m.disk.table.Block(h.Slot) == h.Block {
					m.stored(kv.Disk, h.Block)
				}
			}
		}
		m.mu.Unlock()
	}
}

// The methods below are called with mu held.

func (t *diskTier) usable(dir direction, now time.Time) (p policy.Parts) {
	for i, d := range t.devices {
		if d.store != nil && d.sides[dir].Usable(now) {
			p |= 1 << i
		}
	}
	return p
}

func (t *diskTier) deviceOf(s policy.Slot) *device { return t.devices[t.table.Part(s)] }

func (d *device) local(s policy.Slot) policy.Slot { return s - d.first }

// has reports whether a block can be read now.
func (t *diskTier) has(h kv.Hash, now time.Time) bool {
	s, ok := t.table.Find(h)
	return ok && t.deviceOf(s).sides[reading].Usable(now)
}

// saveToDisk copies cpu -> disk.
func (m *Manager) saveToDisk(l *link, j *job) outcome {
	if m.disk.table.Has(j.block.Hash) {
		return present
	}
	if !m.offloadSource(j) {
		return dropped
	}
	s, how := m.diskSlot()
	if how != moved {
		return how
	}
	t := m.disk
	d := t.deviceOf(s)
	err := l.timed(1, func() error { return d.store.Write(d.local(s), j.block, j.src.Bytes()) })
	if err != nil {
		t.table.Abort(s)
		d.sides[writing].broke(err)
		return failed
	}
	d.sides[writing].works()
	d.written += uint64(m.blockBytes)
	if !t.table.Commit(s, j.block) { // a device that came back had it
		t.table.Abort(s)
		return present
	}
	t.table.Unlease(s)
	m.stored(kv.Disk, j.block)
	return moved
}

// diskSlot gets a slot to write to, on a device that the caller may use and has
// to report about. Without a free one it evicts a block, whose tombstone is in
// the journal before the slot is written again.
func (m *Manager) diskSlot() (policy.Slot, outcome) {
	t := m.disk
	parts := t.usable(writing, m.now())
	s, ok := t.table.Fill(parts)
	if !ok {
		victim, b, ok := t.table.Evict(parts)
		if !ok {
			return 0, dropped // no device works, or readers hold every slot
		}
		m.evicted(kv.Disk, []kv.Hash{b.Hash})
		d := t.deviceOf(victim)
		if !d.sides[writing].Allow(m.now()) {
			t.table.Evicted(victim)
			return 0, dropped
		}
		if err := m.bury(victim); err != nil {
			d.sides[writing].broke(err)
			return 0, failed
		}
		if s, ok = t.table.Fill(1 << t.table.Part(victim)); !ok {
			d.sides[writing].Unknown()
			return 0, dropped // another writer took it
		}
		return s, moved
	}
	if !t.deviceOf(s).sides[writing].Allow(m.now()) {
		t.table.Abort(s)
		return 0, dropped
	}
	return s, moved
}

// bury writes the tombstone of an evicting disk slot and frees it. If that
// fails, a restart may find the block again; the checksum then tells whether it
// is still there.
func (m *Manager) bury(s policy.Slot) error {
	d := m.disk.deviceOf(s)
	m.mu.Unlock()
	err := d.store.Tombstone(d.local(s))
	m.mu.Lock()
	m.disk.table.Evicted(s)
	return err
}

// loadFromDisk copies disk -> cpu. A block that cannot be read, or is not what
// was written, leaves the tier.
func (m *Manager) loadFromDisk(l *link, j *job) outcome {
	dst, how := m.hostSlot(l, j.flight)
	if how != moved {
		return how
	}
	t := m.disk
	s, ok := t.table.Find(j.block.Hash)
	if !ok || !t.deviceOf(s).sides[reading].Allow(m.now()) {
		m.cpu.abort(dst)
		return missed
	}
	d := t.deviceOf(s)
	b := t.table.Block(s)
	t.table.Lease(s)
	err := l.timed(1, func() error { return d.store.Read(d.local(s), m.cpu.mem.Slot(int(dst))) })
	t.table.Unlease(s)
	if err == nil {
		d.sides[reading].works()
		t.table.Hit(s)
		return m.land(j, m.cpu, dst, b)
	}
	m.cpu.abort(dst)
	if errors.Is(err, disk.ErrCorrupt) {
		d.sides[reading].works()
		m.corrupt(kv.Disk, b, err)
	} else {
		d.sides[reading].broke(err)
	}
	if t.table.Drop(s) {
		m.removed(kv.Disk, []kv.Hash{b.Hash})
		if err := m.bury(s); err != nil {
			d.sides[writing].broke(err)
		}
	}
	return failed
}

// admitted asks the write budget about an offload.
func (m *Manager) admitted(l *link, h kv.Hash) bool {
	return l.to != kv.Disk || m.disk.admission.Admit(h, m.blockBytes, m.now())
}

// turnedAway reports whether the write budget spared the block before.
func (m *Manager) turnedAway(l *link, h kv.Hash) bool {
	return l.to == kv.Disk && m.disk.admission.TurnedAway(h)
}

func (t *diskTier) close() error {
	var errs []error
	for _, d := range t.devices {
		if d.store != nil {
			if err := d.store.Close(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", d.path, err))
			}
		}
	}
	return errors.Join(errs...)
}
