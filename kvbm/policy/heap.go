package policy

// The heap of leaves. It is intrusive (each entry knows its rank), so that a
// slot in the middle is taken out in O(log n) when it is leased.

func (t *Table) push(s Slot) {
	t.order = append(t.order, s)
	t.place(len(t.order)-1, s)
	t.up(len(t.order) - 1)
}

func (t *Table) remove(s Slot) {
	i, last := int(t.slots[s].rank), len(t.order)-1
	t.slots[s].rank = -1
	moved := t.order[last]
	t.order = t.order[:last]
	if i == last {
		return
	}
	t.place(i, moved)
	t.down(i)
	t.up(int(t.slots[moved].rank))
}

func (t *Table) place(i int, s Slot) {
	t.order[i] = s
	t.slots[s].rank = int32(i)
}

func (t *Table) older(a, b Slot) bool { return t.slots[a].used < t.slots[b].used }

func (t *Table) up(i int) {
	s := t.order[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.older(s, t.order[parent]) {
			break
		}
		t.place(i, t.order[parent])
		i = parent
	}
	t.place(i, s)
}

func (t *Table) down(i int) {
	s := t.order[i]
	for {
		child := 2*i + 1
		if child >= len(t.order) {
			break
		}
		if r := child + 1; r < len(t.order) && t.older(t.order[r], t.order[child]) {
			child = r
		}
		if !t.older(t.order[child], s) {
			break
		}
		t.place(i, t.order[child])
		i = child
	}
	t.place(i, s)
}
