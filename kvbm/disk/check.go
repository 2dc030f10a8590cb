package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// CheckReport is what Check found in a folder.
type CheckReport struct {
	Dir         string  `json:"dir"`
	Fingerprint kv.Hash `json:"fingerprint"` // of the layout
	BlockBytes  int     `json:"block_bytes"`
	Slots       int     `json:"slots"`
	// Blocks are what the journal says is there: Sound, Corrupt (not the bytes that
	// were written) and Unreadable (the disk gave an error) together.
	Blocks     int `json:"blocks"`
	Sound      int `json:"sound"`
	Corrupt    int `json:"corrupt"`
	Unreadable int `json:"unreadable"`
	// SkippedRecords of the journal do not check. Each is at worst a lost block.
	SkippedRecords int `json:"skipped_records"`
}

// OK reports whether everything that the journal names can be served.
func (r CheckReport) OK() bool { return r.Corrupt+r.Unreadable+r.SkippedRecords == 0 }

// Check reads every block in a folder and verifies it, changing nothing. The
// folder must not be in use; of which model it is does not matter.
func Check(dir string) (r CheckReport, err error) {
	r.Dir = dir
	if _, err := os.Stat(filepath.Join(dir, "slab")); err != nil {
		return r, fmt.Errorf("disk tier: %w; name the folder that holds the slab", err)
	}
	lock, err := lockFolder(filepath.Join(dir, "lock"))
	if err != nil {
		return r, err
	}
	defer lock.Close()
	slab, err := openForCheck(filepath.Join(dir, "slab"))
	if err != nil {
		return r, fmt.Errorf("disk tier: %w", err)
	}
	defer slab.Close()
	page := host.Aligned(slotsAt)
	n, err := slab.ReadAt(page, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("disk tier: superblock: %w", err)
	}
	head, ok := parseHeader(page[:n], slabMagic)
	if !ok {
		return r, errors.New("disk tier: the slab has no superblock that checks; a worker will start it afresh")
	}
	info, err := slab.Stat()
	if err != nil {
		return r, err
	}
	r.Fingerprint, r.BlockBytes = head.fingerprint, int(head.blockBytes)
	r.Slots = Capacity(info.Size(), r.BlockBytes)
	recs, err := r.records(head)
	if err != nil {
		return r, err
	}
	r.verify(slab, recs)
	return r, nil
}

// openForCheck passes the page cache by, so that it is the disk that is read.
func openForCheck(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return os.Open(path)
	}
	return f, err
}

// records are the journal's, by slot.
func (r *CheckReport) records(slab header) ([]record, error) {
	f, err := os.Open(filepath.Join(r.Dir, "journal"))
	if err != nil {
		return nil, fmt.Errorf("disk tier: %w; without it the slab counts as empty", err)
	}
	defer f.Close()
	b := make([]byte, headerBytes)
	n, _ := io.ReadFull(f, b)
	head, ok := parseHeader(b[:n], journalMagic)
	if !ok || head.slabID != slab.slabID || head.fingerprint != slab.fingerprint {
		return nil, errors.New("disk tier: the journal is damaged or of another slab; a worker will start the slab empty")
	}
	got, err := replay(f, head.seed(), r.Slots, slab.blockBytes)
	if err != nil {
		return nil, fmt.Errorf("disk tier: journal: %w", err)
	}
	r.SkippedRecords = got.skipped
	return got.live, nil
}

func (r *CheckReport) verify(slab *os.File, recs []record) {
	stride := host.Stride(r.BlockBytes)
	buf := host.Aligned(stride)
	for _, rec := range recs {
		if rec.seq == 0 {
			continue
		}
		r.Blocks++
		_, err := slab.ReadAt(buf, slotsAt+int64(rec.slot)*int64(stride))
		switch {
		case err != nil:
			r.Unreadable++
		case xxh3.Hash(buf[:r.BlockBytes]) != rec.sum:
			r.Corrupt++
		default:
			r.Sound++
		}
	}
}
