package gateway

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// records keeps the last decisions, those in flight included.
type records struct {
	mu   sync.Mutex
	byID map[string]*entry
	ring []*entry
	next int
	// decided counts the decisions that asked whole.
	decided atomic.Uint64
}

// keptCandidates is about how many candidates the ring may hold in all, some 30
// MB. A gateway in front of a few workers keeps every decision whole; in front
// of a thousand, every 63rd.
const keptCandidates = 64 << 10

// whole reports whether the next decision, among n candidates, is kept with all
// of them.
func (rs *records) whole(n int) bool {
	every := (n*len(rs.ring) + keptCandidates - 1) / keptCandidates
	return (rs.decided.Add(1)-1)%uint64(max(1, every)) == 0
}

// entry is a record that is still being written.
type entry struct {
	// Guarded by records.mu: an entry leaves byID when it is both.
	ended, evicted bool

	mu sync.Mutex
	r  Record
}

func newRecords(n int) *records {
	return &records{byID: make(map[string]*entry, n), ring: make([]*entry, n)}
}

// begin files r under the id that the client asked for. The id is also the
// name under which gateway, agent and engine find each other's part of the
// request, so one that is still known here gets a suffix: two requests must
// never share a restore.
func (rs *records) begin(wanted string, r Record) *entry {
	e := &entry{r: r}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if wanted == "" {
		wanted = newID()
	}
	id := wanted
	for n := 2; rs.byID[id] != nil; n++ {
		id = fmt.Sprintf("%s~%d", wanted, n)
	}
	e.r.RequestID = id
	rs.byID[id] = e
	if old := rs.ring[rs.next]; old != nil {
		old.evicted = true
		rs.forget(old)
	}
	rs.ring[rs.next] = e
	rs.next = (rs.next + 1) % len(rs.ring)
	return e
}

// end lets e be forgotten once its turn in the ring comes.
func (rs *records) end(e *entry) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	e.ended = true
	rs.forget(e)
}

func (rs *records) forget(e *entry) {
	if e.ended && e.evicted {
		delete(rs.byID, e.r.RequestID)
	}
}

// find is the record of an id, finished or not.
func (rs *records) find(id string) (Record, bool) {
	rs.mu.Lock()
	e := rs.byID[id]
	rs.mu.Unlock()
	if e == nil {
		return Record{}, false
	}
	return e.snapshot(), true
}

// latest are up to n records, newest first.
func (rs *records) latest(n int) []Record {
	rs.mu.Lock()
	entries := make([]*entry, 0, min(n, len(rs.ring)))
	for i := 1; i <= len(rs.ring) && len(entries) < n; i++ {
		e := rs.ring[(rs.next-i+len(rs.ring))%len(rs.ring)]
		if e == nil {
			break
		}
		entries = append(entries, e)
	}
	rs.mu.Unlock()
	out := make([]Record, len(entries))
	for i, e := range entries {
		out[i] = e.snapshot()
	}
	return out
}

// update changes the record. What it points to must be new: snapshots share it.
func (e *entry) update(f func(*Record)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.r)
}

func (e *entry) id() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.r.RequestID
}

// chosen is the decision's worker; nil before there is one.
func (e *entry) chosen() *Candidate {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.r.winner()
}

func (e *entry) snapshot() Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.r
}

func newID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// saneID reports whether a client's request id can be passed on: short, and
// plain in headers, logs and URLs.
func saneID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}
