package tokenizer

import (
	"math/bits"
	"unicode/utf8"
)

// A mergeTable maps a pair of ids to the rank of their merge, and ranks to what
// the merge makes. It is asked for every pair of every word that was not met
// before, so it is kept small: a slot is left << 43 | right << 22 | rank.
type mergeTable struct {
	slots []uint64
	shift uint
	// maybe has a bit set for every pair that merges, by its hash. Most pairs
	// that are asked for do not, and it fits the cache where slots do not.
	maybe [1 << maybeBits / 64]uint64
	// bytes holds the ranks of pairs of single bytes, where every word starts;
	// nil for SentencePiece.
	bytes []uint32
	// made is what the merges of a rank make. Scores of SentencePiece may tie: a
	// rank that makes several pieces is several here, and its pairs are in tied.
	made []uint32
	tied map[uint64]uint32
}

const (
	maybeBits = 21
	rankBits  = 22
	noRank    = 1<<rankBits - 1 // of a pair that does not merge, the worst
	noSlot    = 1<<64 - 1
	several   = none - 1
)

func newMergeTable(rules []mergeRule) *mergeTable {
	size, ranks := uint(6), uint32(0)
	for 1<<size < len(rules)+len(rules)/2 {
		size++
	}
	for _, r := range rules {
		ranks = max(ranks, r.rank+1)
	}
	m := &mergeTable{slots: make([]uint64, 1<<size), shift: 64 - size, made: make([]uint32, ranks), tied: map[uint64]uint32{}}
	for i := range m.slots {
		m.slots[i] = noSlot
	}
	for i := range m.made {
		m.made[i] = none
	}
	for _, r := range rules {
		if made := &m.made[r.rank]; *made == none || *made == r.merged {
			*made = r.merged
		} else {
			*made = several
		}
	}
	for _, r := range rules {
		m.add(r)
	}
	return m
}

func pairOf(left, right uint32) uint64 { return (uint64(left)*maxID + uint64(right)) << rankBits }

func hashPair(pair uint64) uint64 { return pair * 0x9E3779B97F4A7C15 }

// add lets a later rule for the same pair win, as a hash map does.
func (m *mergeTable) add(r mergeRule) {
	pair := pairOf(r.left, r.right)
	hash := hashPair(pair)
	m.maybe[hash>>(64-maybeBits)>>6] |= 1 << (hash >> (64 - maybeBits) & 63)
	mask := uint64(len(m.slots) - 1)
	i := hash >> m.shift
	for m.slots[i] != noSlot && m.slots[i]&^noRank != pair {
		i = (i + 1) & mask
	}
	m.slots[i] = pair | uint64(r.rank)
	if m.made[r.rank] == several {
		m.tied[pair] = r.merged
	}
}

// rank is that of the merge of a pair, noRank if there is none.
func (m *mergeTable) rank(left, right uint32) uint32 {
	pair := pairOf(left, right)
	hash := hashPair(pair)
	if m.maybe[hash>>(64-maybeBits)>>6]>>(hash>>(64-maybeBits)&63)&1 == 0 {
		return noRank
	}
	mask := uint64(len(m.slots) - 1)
	for i := hash >> m.shift; ; i++ {
		slot := m.slots[i&mask]
		if slot&^noRank == pair {
			return uint32(slot & noRank)
		}
		if slot == noSlot {
			return noRank
		}
	}
}

// merged is what a pair of a rank merges into.
func (m *mergeTable) merged(rank, left, right uint32) uint32 {
	if id := m.made[rank]; id != several {
		return id
	}
	return m.tied[pairOf(left, right)]
}

// maxScanned is the longest word whose next merge is found by scanning; beyond
// it a heap bounds the time to n log n.
const maxScanned = 64

// merge applies the merges to e.ids in order of rank, the leftmost of equals
// first, and leaves the result in e.ids.
func (e *encoder) merge() {
	if len(e.ids) > maxScanned {
		e.mergeHeap()
		return
	}
	e.ids, _, _ = mergeScan(e.t.merges, e.ids, e.firstRanks())
}

// firstRanks is the ranks of the neighbours in e.ids, up to maxScanned.
func (e *encoder) firstRanks() []uint32 {
	m, ids := e.t.merges, e.ids
	ranks := e.ranks[:len(ids)]
	for i := 0; i+1 < len(ids); i++ {
		ranks[i] = m.rank(ids[i], ids[i+1])
	}
	return ranks
}

// mergeBytes is merge of a byte-level word, whose first pairs are bytes; false
// if the vocabulary lacks one of them.
func (e *encoder) mergeBytes(word string) bool {
	m := e.t.merges
	ranks := e.ranks[:len(word)]
	ids := e.ids[:0]
	for i := 0; i < len(word); i++ {
		id := e.t.byteID[word[i]]
		if id == none {
			return false
		}
		ids = append(ids, id)
		if i > 0 {
			ranks[i-1] = m.bytes[uint(word[i-1])<<8|uint(word[i])]
		}
	}
	e.ids, _, _ = mergeScan(m, ids, ranks)
	return true
}

// mergeRunes is mergeBytes of a word that may start from characters.
func (e *encoder) mergeRunes(word string) bool {
	t := e.t
	ids := e.ids[:0]
	for i := 0; i < len(word); {
		if word[i] >= 0x80 {
			id, n := t.runes.at(word, i)
			if id != none {
				ids = append(ids, id)
				i += n
				continue
			}
		}
		for n := 0; n == 0 || i < len(word) && !utf8.RuneStart(word[i]); n++ {
			id := t.byteID[word[i]]
			if id == none {
				return false
			}
			ids = append(ids, id)
			i++
		}
	}
	e.ids = ids
	e.merge()
	return true
}

// mergeScan merges ids, where ranks[i] is that of ids[i] and the next one that is
// still there. It also says which two it joined last, none if none.
func mergeScan(m *mergeTable, ids, ranks []uint32) (merged []uint32, lastLeft, lastRight uint32) {
	n := len(ids)
	lastLeft, lastRight = none, none
	if n < 2 {
		return ids, lastLeft, lastRight
	}
	ranks = ranks[:n]
	ranks[n-1] = noRank
	there := uint64(1)<<n - 1
	for {
		// The rank and, below it, the place: the least is the leftmost of the best.
		best := uint32(noRank << 8)
		for i, rank := range ranks {
			best = min(best, rank<<8|uint32(i))
		}
		rank, at := best>>8, uint(best&(maxScanned-1))
		if rank == noRank {
			break
		}
		right := next(there, at)
		lastLeft, lastRight = ids[at], ids[right]
		id := m.merged(rank, lastLeft, lastRight)
		ids[at], ranks[right], ranks[at] = id, noRank, noRank
		there &^= 1 << right
		if after := next(there, at); after < maxScanned {
			ranks[at] = m.rank(id, ids[after])
		}
		if before := there & (1<<at - 1); before != 0 {
			last := bits.Len64(before) - 1
			ranks[last] = m.rank(ids[last], id)
		}
	}
	n = 0
	for ; there != 0; there &= there - 1 {
		ids[n] = ids[bits.TrailingZeros64(there)]
		n++
	}
	return ids[:n], lastLeft, lastRight
}

// next is the lowest bit of there above bit at, 64 if there is none.
func next(there uint64, at uint) uint { return uint(bits.TrailingZeros64(there &^ (2<<at - 1))) }

// mergeHeap keeps candidate merges as (rank << 32 | position) in a heap, so
// that equal ranks come out leftmost first. An entry is stale if the pair at
// its position has another rank by now.
func (e *encoder) mergeHeap() {
	m, ids := e.t.merges, e.ids
	n := len(ids)
	next, prev, heap := grown(e.next, n), grown(e.prev, n), e.heap[:0]
	for i := range ids {
		next[i], prev[i] = uint32(i+1), uint32(i)-1
		if i+1 < n {
			if rank := m.rank(ids[i], ids[i+1]); rank != noRank {
				heap = append(heap, uint64(rank)<<32|uint64(i))
			}
		}
	}
	heapify(heap)
	for len(heap) > 0 {
		top := heap[0]
		heap = heapPop(heap)
		at := uint32(top)
		right := next[at]
		if ids[at] == none || int(right) >= n {
			continue
		}
		rank := m.rank(ids[at], ids[right])
		if rank == noRank || uint64(rank) != top>>32 {
			continue
		}
		ids[at], ids[right] = m.merged(rank, ids[at], ids[right]), none
		after := next[right]
		next[at] = after
		if int(after) < n {
			prev[after] = at
			if rank := m.rank(ids[at], ids[after]); rank != noRank {
				heap = heapPush(heap, uint64(rank)<<32|uint64(at))
			}
		}
		if before := prev[at]; before != none {
			if rank := m.rank(ids[before], ids[at]); rank != noRank {
				heap = heapPush(heap, uint64(rank)<<32|uint64(before))
			}
		}
	}
	e.next, e.prev, e.heap = next, prev, heap
	out := ids[:0]
	for i := 0; i < n; i = int(next[i]) {
		out = append(out, ids[i])
	}
	e.ids = out
}

func grown(s []uint32, n int) []uint32 {
	if cap(s) < n {
		return make([]uint32, n)
	}
	return s[:n]
}

func heapify(h []uint64) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i)
	}
}

func heapPop(h []uint64) []uint64 {
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	siftDown(h, 0)
	return h
}

func heapPush(h []uint64, v uint64) []uint64 {
	h = append(h, v)
	i := len(h) - 1
	for i > 0 && h[(i-1)/2] > v {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = v
	return h
}

func siftDown(h []uint64, i int) {
	if len(h) == 0 {
		return
	}
	v := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[child] >= v {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = v
}
