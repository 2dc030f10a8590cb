package policy

// Priority orders the transfers of one link.
type Priority uint8

// The priorities, most urgent first.
const (
	Demand   Priority = iota // a request waits for the block
	Prefetch                 // a request will want the block
	Offload                  // a copy for later
	numPriorities
)

// Item is a place in a Queue. The owner of the transfer embeds it, so that
// queueing does not allocate and a cancelled transfer leaves in O(1).
type Item[T any] struct {
	Value      T
	Bytes      int64
	priority   Priority
	queued     bool
	prev, next *Item[T]
}

// Priority is the item's, since it was pushed or promoted.
func (it *Item[T]) Priority() Priority { return it.priority }

// Queue holds the transfers that wait for one link: first by priority, then in
// the order of arrival. Offloads are bounded in bytes, because nobody waits for
// them and they arrive as fast as the engine computes; demand loads are bounded
// by those who issue them.
type Queue[T any] struct {
	lanes  [numPriorities]struct{ head, tail *Item[T] }
	budget int64
	bytes  [numPriorities]int64
	n      [numPriorities]int
}

// NewQueue is a queue for at most budget bytes of offloads.
func NewQueue[T any](budget int64) *Queue[T] { return &Queue[T]{budget: budget} }

// Push appends an item. It fails when that would exceed the offload budget.
func (q *Queue[T]) Push(it *Item[T], p Priority) bool {
	if p == Offload && q.bytes[Offload]+it.Bytes > q.budget {
		return false
	}
	it.priority, it.queued = p, true
	lane := &q.lanes[p]
	it.prev, it.next = lane.tail, nil
	if lane.tail == nil {
		lane.head = it
	} else {
		lane.tail.next = it
	}
	lane.tail = it
	q.bytes[p] += it.Bytes
	q.n[p]++
	return true
}

// Pop takes the most urgent item.
func (q *Queue[T]) Pop() (*Item[T], bool) {
	it, ok := q.Next()
	if ok {
		q.Remove(it)
	}
	return it, ok
}

// Remove takes an item out; false when it is not queued (any more).
func (q *Queue[T]) Remove(it *Item[T]) bool {
	if !it.queued {
		return false
	}
	lane := &q.lanes[it.priority]
	if it.prev == nil {
		lane.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		lane.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next, it.queued = nil, nil, false
	q.bytes[it.priority] -= it.Bytes
	q.n[it.priority]--
	return true
}

// Promote moves a queued item to a more urgent lane.
func (q *Queue[T]) Promote(it *Item[T], p Priority) {
	if it.queued && p < it.priority {
		q.Remove(it)
		q.Push(it, p)
	}
}

// Next is the item that Pop would take.
func (q *Queue[T]) Next() (*Item[T], bool) {
	for p := range q.lanes {
		if it := q.lanes[p].head; it != nil {
			return it, true
		}
	}
	return nil, false
}

// Len is the number of items.
func (q *Queue[T]) Len() (sum int) {
	for _, n := range q.n {
		sum += n
	}
	return sum
}

// Waiting is the number of items of one priority.
func (q *Queue[T]) Waiting(p Priority) int { return q.n[p] }

// Bytes is the sum of the items' bytes.
func (q *Queue[T]) Bytes() (sum int64) {
	for _, b := range q.bytes {
		sum += b
	}
	return sum
}
