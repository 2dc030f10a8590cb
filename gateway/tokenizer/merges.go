package tokenizer

// noMerge is the value of a pair that does not merge; its rank is the worst.
const noMerge = 1<<64 - 1

// mergeTable maps a pair of ids to (rank << 32 | merged id).
type mergeTable struct {
	slots []mergeSlot
	shift uint
	// maybe has a bit set for every pair that merges, by its hash. Most pairs
	// that are asked for do not, and it fits the cache where slots do not.
	maybe [1 << maybeBits / 64]uint64
	// bytes holds the pairs of single bytes, where every word starts; nil for
	// SentencePiece.
	bytes []uint64
}

const maybeBits = 21

type mergeSlot struct{ pair, merged uint64 }

func newMergeTable(n int) *mergeTable {
	size := uint(6)
	for 1<<size < n+n/2 {
		size++
	}
	m := &mergeTable{slots: make([]mergeSlot, 1<<size), shift: 64 - size}
	for i := range m.slots {
		m.slots[i].pair = noMerge
	}
	return m
}

func hashPair(pair uint64) uint64 { return pair * 0x9E3779B97F4A7C15 }

func (m *mergeTable) slot(pair, hash uint64) *mergeSlot {
	mask := uint64(len(m.slots) - 1)
	for i := hash >> m.shift; ; i = (i + 1) & mask {
		if s := &m.slots[i&mask]; s.pair == pair || s.pair == noMerge {
			return s
		}
	}
}

// add lets a later rule for the same pair win, as a hash map does.
func (m *mergeTable) add(left, right, merged, rank uint32) {
	pair := uint64(left)<<32 | uint64(right)
	hash := hashPair(pair)
	*m.slot(pair, hash) = mergeSlot{pair, uint64(rank)<<32 | uint64(merged)}
	m.maybe[hash>>(64-maybeBits)>>6] |= 1 << (hash >> (64 - maybeBits) & 63)
}

func (m *mergeTable) find(left, right uint32) uint64 {
	pair := uint64(left)<<32 | uint64(right)
	hash := hashPair(pair)
	if m.maybe[hash>>(64-maybeBits)>>6]>>(hash>>(64-maybeBits)&63)&1 == 0 {
		return noMerge
	}
	if s := m.slot(pair, hash); s.pair == pair {
		return s.merged
	}
	return noMerge
}

// maxScanned is the longest word whose next merge is found by scanning; beyond
// it a heap bounds the time to n log n.
const maxScanned = 160

// merge applies the merges to e.ids in order of rank, the leftmost of equals
// first, and leaves the result in e.ids.
func (e *encoder) merge() {
	if len(e.ids) > maxScanned {
		e.mergeHeap()
		return
	}
	m := e.t.merges
	ids := e.ids
	var room [maxScanned]uint64
	merged := room[:len(ids)]
	for i := 0; i+1 < len(ids); i++ {
		merged[i] = m.find(ids[i], ids[i+1])
	}
	e.ids = mergeScan(m, ids, merged)
}

// mergeBytes is merge of a byte-level word, whose first pairs are bytes; false
// if the vocabulary lacks one of them.
func (e *encoder) mergeBytes(word string) bool {
	m := e.t.merges
	var room [maxScanned]uint64
	merged := room[:len(word)]
	ids := e.ids[:0]
	for i := 0; i < len(word); i++ {
		id := e.t.byteID[word[i]]
		if id == none {
			return false
		}
		ids = append(ids, id)
		if i > 0 {
			merged[i-1] = m.bytes[uint(word[i-1])<<8|uint(word[i])]
		}
	}
	e.ids = mergeScan(m, ids, merged)
	return true
}

// mergeScan merges ids, where merged[i] is the merge of ids[i] and ids[i+1].
func mergeScan(m *mergeTable, ids []uint32, merged []uint64) []uint32 {
	n := len(ids)
	merged = merged[:n]
	for n > 1 {
		best, at := uint64(noMerge), 0
		for i, v := range merged[:n-1] {
			if v>>32 < best>>32 {
				best, at = v, i
			}
		}
		if best == noMerge {
			break
		}
		ids[at] = uint32(best)
		n--
		copy(ids[at+1:n], ids[at+2:n+1])
		copy(merged[at:n-1], merged[at+1:n])
		if at > 0 {
			merged[at-1] = m.find(ids[at-1], ids[at])
		}
		if at+1 < n {
			merged[at] = m.find(ids[at], ids[at+1])
		}
	}
	return ids[:n]
}

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
			if v := m.find(ids[i], ids[i+1]); v != noMerge {
				heap = append(heap, v&^(1<<32-1)|uint64(i))
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
		v := m.find(ids[at], ids[right])
		if v == noMerge || v>>32 != top>>32 {
			continue
		}
		ids[at], ids[right] = uint32(v), none
		after := next[right]
		next[at] = after
		if int(after) < n {
			prev[after] = at
			if v := m.find(ids[at], ids[after]); v != noMerge {
				heap = heapPush(heap, v&^(1<<32-1)|uint64(at))
			}
		}
		if before := prev[at]; before != none {
			if v := m.find(ids[before], ids[at]); v != noMerge {
				heap = heapPush(heap, v&^(1<<32-1)|uint64(before))
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
