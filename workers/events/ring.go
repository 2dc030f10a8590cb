package events

import "slices"

// message is one encoded batch; payload never changes.
type message struct {
	seq     uint64
	payload []byte
}

// ring keeps the latest batches, bounded in number and bytes.
type ring struct {
	maxBatches, maxBytes int

	next      uint64 // sequence number of the next batch
	published uint64
	held      []message // held[head:], oldest first
	head      int
	bytes     int
}

// add numbers a payload and keeps it, letting the oldest go.
func (r *ring) add(payload []byte) message {
	m := message{r.next, payload}
	r.next++
	r.published++
	r.held = append(r.held, m)
	r.bytes += len(payload)
	for n := len(r.held) - r.head; n > 1 && (n > r.maxBatches || r.bytes > r.maxBytes); n-- {
		r.bytes -= len(r.held[r.head].payload)
		r.held[r.head].payload = nil
		r.head++
	}
	// Give the front of the slice back once it is half of it.
	if r.head > len(r.held)/2 {
		r.held = append([]message(nil), r.held[r.head:]...)
		r.head = 0
	}
	return m
}

// from is every held message numbered seq or later.
func (r *ring) from(seq uint64) []message {
	held := r.held[r.head:]
	i, _ := slices.BinarySearchFunc(held, seq, func(m message, seq uint64) int {
		switch {
		case m.seq < seq:
			return -1
		case m.seq > seq:
			return 1
		}
		return 0
	})
	return slices.Clone(held[i:])
}
