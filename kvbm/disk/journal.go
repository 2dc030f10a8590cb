package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// journal is the log of slots. It has its own lock, which is held during its
// small writes and during a checkpoint.
type journal struct {
	dir  string
	wrap func(string, *os.File) file

	mu      sync.Mutex
	f       file
	head    header
	seed    uint32
	off     int64
	lastSeq uint64
	live    []record // by slot; seq 0 = nothing
	limit   int64    // size at which a checkpoint is due
	dirty   bool     // has records, or had before a checkpoint, whose blocks were not synced
	syncing file     // is being synced, and closed by who does it if no longer in use
}

// journalLimit is the size at which a checkpoint is due: as many records again
// as the slab has slots, so that a restart never reads much more than it needs.
func journalLimit(slots int) int64 { return headerBytes + recordBytes*max(2*int64(slots), 4096) }

func (j *journal) path() string { return filepath.Join(j.dir, "journal") }

// append writes one record and makes it count. A record that was not written
// whole does not check, and the next one overwrites it.
func (j *journal) append(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.seq = j.lastSeq + 1
	var buf [recordBytes]byte
	if _, err := j.f.WriteAt(r.append(buf[:0], j.seed), j.off); err != nil {
		return fmt.Errorf("disk tier: journal: %w", err)
	}
	j.off += recordBytes
	j.lastSeq = r.seq
	j.dirty = true
	if r.kind == kindTombstone {
		j.live[r.slot] = record{}
	} else {
		j.live[r.slot] = r
	}
	if j.off >= j.limit {
		if err := j.checkpoint(); err != nil {
			j.limit *= 2 // the journal in use is as good as before; try again later
			return nil
		}
	}
	return nil
}

func (j *journal) find(slot uint32) (record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.live[slot]
	return r, r.seq != 0
}

// forget drops a slot from what is live even if its tombstone cannot be
// written.
func (j *journal) forget(slot uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live[slot] = record{}
}

// sync makes what was appended so far durable, while more is appended. It is
// not called twice at a time.
func (j *journal) sync() error {
	j.mu.Lock()
	f := j.f
	j.syncing, j.dirty = f, false
	j.mu.Unlock()
	err := f.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.syncing = nil
	if f != j.f { // a checkpoint has replaced it, and is durable itself
		return f.Close()
	}
	j.dirty = j.dirty || err != nil
	return err
}

// checkpoint replaces the journal by one that holds what is live and nothing
// else. A crash leaves either the old or the new one. mu is held.
func (j *journal) checkpoint() error {
	head := j.head
	head.counter++
	seed := head.seed()
	slots := inOrder(j.live)
	b := make([]byte, 0, headerBytes+len(slots)*recordBytes)
	b = append(b, head.encode(journalMagic)...)
	for _, slot := range slots {
		b = j.live[slot].append(b, seed)
	}
	f, err := j.replace(b)
	if err != nil {
		return fmt.Errorf("disk tier: checkpoint: %w", err)
	}
	if j.f != nil && j.f != j.syncing {
		_ = j.f.Close() // it is unlinked; its content no longer matters
	}
	j.f, j.head, j.seed, j.off = f, head, seed, int64(len(b)) // dirty stays: the slab was not synced
	j.limit = journalLimit(len(j.live))
	return nil
}

func (j *journal) replace(b []byte) (file, error) {
	name := j.path() + ".new"
	raw, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	f := j.wrap("journal", raw)
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(name, j.path())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	// The rename happened; that it is not yet durable only means that a crash
	// of the machine brings the old journal back, which is as true.
	if d, err := os.Open(j.dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return f, nil
}
