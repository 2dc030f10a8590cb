package policy

// The heaps of leaves. They are intrusive (each entry knows its rank), so that a
// slot in the middle is taken out in O(log n) when it is leased.

func (t *Table) heapOf(s Slot) *[]Slot {
	e := &t.slots[s]
	return &t.order[e.part][e.class]
}

func (t *Table) push(s Slot) {
	h := t.heapOf(s)
	*h = append(*h, s)
	t.place(*h, len(*h)-1, s)
	t.up(*h, len(*h)-1)
}

func (t *Table) remove(s Slot) {
	h := t.heapOf(s)
	i, last := int(t.slots[s].rank), len(*h)-1
	t.slots[s].rank = -1
	moved := (*h)[last]
	*h = (*h)[:last]
	if i == last {
		return
	}
	t.place(*h, i, moved)
	t.down(*h, i)
	t.up(*h, int(t.slots[moved].rank))
}

func (t *Table) place(h []Slot, i int, s Slot) {
	h[i] = s
	t.slots[s].rank = int32(i)
}

func (t *Table) older(a, b Slot) bool { return t.slots[a].used < t.slots[b].used }

func (t *Table) up(h []Slot, i int) {
	s := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.older(s, h[parent]) {
			break
		}
		t.place(h, i, h[parent])
		i = parent
	}
	t.place(h, i, s)
}

func (t *Table) down(h []Slot, i int) {
	s := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if r := child + 1; r < len(h) && t.older(h[r], h[child]) {
			child = r
		}
		if !t.older(h[child], s) {
			break
		}
		t.place(h, i, h[child])
		i = child
	}
	t.place(h, i, s)
}
