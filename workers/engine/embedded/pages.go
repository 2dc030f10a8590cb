package embedded

import (
	"github.com/kvasir-ai/kvasir/kvbm"
)

// page holds one block's worth of a sequence's KV: committed and shared, or
// still ours alone.
type page struct {
	lease   *kvbm.Lease
	filling *kvbm.Filling
}

func (p page) release() {
	if p.lease != nil {
		p.lease.Release()
	} else {
		p.filling.Abort()
	}
}

// pagesFor is the number of pages that hold the KV of n tokens.
func (s *scheduler) pagesFor(n int) int { return (n + s.blockSize - 1) / s.blockSize }

// reuse leases the leading blocks of q that are in the pool. At least one token
// is left to compute: its logits choose the next one.
func (s *scheduler) reuse(q *sequence) {
	most := min(len(q.hashes), (len(q.tokens)-1)/s.blockSize)
	for _, l := range s.pool.Acquire(q.hashes[:most]) {
		q.pages = append(q.pages, page{lease: l})
		q.bytes = append(q.bytes, l.Bytes())
	}
	q.committed = len(q.pages)
	q.computed = q.committed * s.blockSize
}

// reserve gives q the pages for n tokens, or none and false.
func (s *scheduler) reserve(q *sequence, n int) bool {
	missing := s.pagesFor(n) - len(q.pages)
	if missing <= 0 {
		return true
	}
	fillings, err := s.pool.Reserve(missing)
	if err != nil {
		return false
	}
	for _, f := range fillings {
		q.pages = append(q.pages, page{filling: f})
		q.bytes = append(q.bytes, f.Bytes())
	}
	return true
}

// commit publishes the blocks of q that its last step filled. A block that
// another sequence computed meanwhile is shared and our copy given back: the
// arithmetic makes both the same, bit for bit.
func (s *scheduler) commit(q *sequence) {
	for full := q.computed / s.blockSize; q.committed < full; q.committed++ {
		i := q.committed
		if i == len(q.hashes) {
			parent := q.root
			if i > 0 {
				parent = q.hashes[i-1]
			}
			q.hashes = append(q.hashes, parent.Child(q.tokens[i*s.blockSize:(i+1)*s.blockSize]))
			s.announcer.learn(q, i)
		}
		p := &q.pages[i]
		b := q.block(i)
		lease, ok := p.filling.Commit(b)
		if !ok {
			theirs := s.pool.Acquire(q.hashes[i : i+1])
			if len(theirs) == 0 {
				continue // evicted between the two calls: ours stays a private page
			}
			p.filling.Abort()
			lease = theirs[0]
		}
		*p = page{lease: lease}
		q.bytes[i] = lease.Bytes()
	}
}

// releasePages forgets q's KV; committed blocks stay in the pool for others.
// Last page first, so that a prefix outlives what follows it.
func (s *scheduler) releasePages(q *sequence) {
	for i := len(q.pages) - 1; i >= 0; i-- {
		q.pages[i].release()
	}
	clear(q.pages)
	clear(q.bytes)
	q.pages, q.bytes = q.pages[:0], q.bytes[:0]
	q.computed, q.committed = 0, 0
}
