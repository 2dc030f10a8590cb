package prefixindex

import "github.com/kvasir-ai/kvasir/internal/kv"

// Snapshot is what worker id holds, and the store it shares, as events that
// make the same of an empty index (law 3), parents before children. Changes wait
// meanwhile.
func (x *Index) Snapshot(id kv.WorkerID) []kv.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.fleet.Load()
	w, ok := f.workers[id]
	if !ok {
		return nil
	}
	c := x.core.Load()
	var out []kv.Event
	if f.holders[w].resumes { // also when nothing is marked just now
		out = append(out, kv.Event{Kind: kv.Removed, Tier: kv.Resume})
	}
	var stack []uint32
	for r := uint32(1); r < c.runs.used; r++ {
		if run := c.runs.at(r); run.len() > 0 && run.isGhost() {
			stack = append(stack, run.child)
		}
		for len(stack) > 0 {
			r := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			run := c.runs.at(r)
			if run.next != 0 {
				stack = append(stack, run.next)
			}
			if run.child != 0 {
				stack = append(stack, run.child)
			}
			c.eachMember(r, func(k key, parent kv.Hash, chain []kv.Hash) {
				if k == f.keyOf(w, k.tier()) {
					out = append(out, kv.Event{Kind: kv.Stored, Tier: k.tier(), Parent: parent, Hashes: chain})
				}
			})
		}
	}
	return out
}
