package events

import (
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// windows is what the KV cache groups hold that keep no whole prefixes (sliding
// windows, Mamba). A prefix can be resumed behind a block when each of these
// groups holds a full window up to it, or all from the prompt's start.
//
// Engines hold few such blocks: vLLM keeps one window a prompt, at its end, and
// one where prompts were seen to part.
type windows struct {
	needs  []uint32 // blocks of a full window, by group as in translator.groups
	blocks map[kv.Hash]*windowBlock
	// following has the keys of blocks by the parent.
	following map[kv.Hash][]kv.Hash
}

// windowBlock is a block that some such group holds.
type windowBlock struct {
	n name // as it was named; where it is may have changed
	// runs is, by group, how many blocks up to this one it holds in a row, at
	// most the group's need, which a run from the prompt's start always has.
	runs   []uint32
	marked bool // as told
}

func newWindows() windows {
	return windows{blocks: map[kv.Hash]*windowBlock{}, following: map[kv.Hash][]kv.Hash{}}
}

// storeWindow takes what a group that keeps no whole prefixes has stored. The
// event may name any of the blocks whose tokens it has, and does not say which:
// the group that keeps whole prefixes names them.
func (t *translator) storeWindow(out []kv.Event, e *Event, p place) []kv.Event {
	t.stats.WindowEvents++
	if p.tier != kv.GPU || e.BlockSize == 0 || len(e.Hashes) == 0 {
		return out // below the gpu nothing is known of what resuming takes
	}
	if t.root.BlockSize == 0 {
		t.root.BlockSize = e.BlockSize
	}
	if e.BlockSize != t.root.BlockSize {
		t.stats.Mismatched += uint64(len(e.Hashes))
		return out
	}
	out = t.makeRoom(out, len(e.Hashes))
	p.tier = kv.Resume
	out = t.meetWindow(out, p.group, max(1, (e.windowTokens+e.BlockSize-2)/e.BlockSize))
	for _, h := range e.Hashes {
		if n := t.names.findOrAdd(h); t.count(n, p, e.reused) && n.resolved {
			out = t.setWindow(out, n, p.group, true)
		}
	}
	return out
}

// meetWindow takes note of a group that was not seen before. It holds nothing
// yet, so nothing can be resumed.
func (t *translator) meetWindow(out []kv.Event, group uint16, need int) []kv.Event {
	if slices.Contains(t.groups[kv.Resume], group) {
		return out
	}
	t.groups[kv.Resume] = append(t.groups[kv.Resume], group)
	t.windows.needs = append(t.windows.needs, uint32(need))
	for _, b := range t.windows.blocks {
		b.runs = append(b.runs, 0)
		out = t.mark(out, b)
	}
	return out
}

// christenWindow takes note of a block whose meaning was learnt after groups
// had stored it.
func (t *translator) christenWindow(out []kv.Event, n *name) []kv.Event {
	if n.at.count > 0 && n.at.tier == kv.Resume {
		out = t.setWindow(out, n, n.at.group, true)
	}
	if n.spread {
		for _, p := range t.elsewhere[n.engine] {
			if p.tier == kv.Resume {
				out = t.setWindow(out, n, p.group, true)
			}
		}
	}
	return out
}

// setWindow enters whether a group holds a block, and what follows for the
// blocks after it.
func (t *translator) setWindow(out []kv.Event, n *name, group uint16, held bool) []kv.Event {
	w := &t.windows
	g := slices.Index(t.groups[kv.Resume], group)
	b := w.blocks[n.ours]
	if b == nil {
		b = &windowBlock{n: *n, runs: make([]uint32, len(w.needs))}
		w.blocks[n.ours] = b
		w.following[n.parent] = append(w.following[n.parent], n.ours)
	}
	run := uint32(0)
	if held {
		run = w.runOf(b, g)
	}
	out = t.setRun(out, b, g, run)
	if slices.Max(b.runs) == 0 {
		w.drop(b)
	}
	return out
}

// runOf is the run that ends with a block that g holds.
func (w *windows) runOf(b *windowBlock, g int) uint32 {
	if b.n.first {
		return w.needs[g]
	}
	if before := w.blocks[b.n.parent]; before != nil {
		return min(before.runs[g]+1, w.needs[g])
	}
	return 1
}

// setRun enters the length of a run and of those that go on from it.
func (t *translator) setRun(out []kv.Event, b *windowBlock, g int, run uint32) []kv.Event {
	w := &t.windows
	for todo := []*windowBlock{b}; len(todo) > 0; {
		b, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if b.runs[g] == run {
			continue
		}
		b.runs[g] = run
		out = t.mark(out, b)
		for _, h := range w.following[b.n.ours] {
			if next := w.blocks[h]; next.runs[g] > 0 {
				todo = append(todo, next)
			}
		}
		if len(todo) > 0 {
			run = w.runOf(todo[len(todo)-1], g)
		}
	}
	return out
}

// mark tells whether a prefix can be resumed behind b, if that has changed.
func (t *translator) mark(out []kv.Event, b *windowBlock) []kv.Event {
	marked := slices.Equal(b.runs, t.windows.needs)
	if marked == b.marked {
		return out
	}
	b.marked = marked
	if marked {
		return t.tell(out, &b.n, kv.Resume)
	}
	return t.untell(out, &b.n, kv.Resume)
}

// drop forgets a block that no group holds.
func (w *windows) drop(b *windowBlock) {
	delete(w.blocks, b.n.ours)
	siblings := w.following[b.n.parent]
	i := slices.Index(siblings, b.n.ours)
	if siblings = slices.Delete(siblings, i, i+1); len(siblings) > 0 {
		w.following[b.n.parent] = siblings
	} else {
		delete(w.following, b.n.parent)
	}
}

// empty forgets what the groups hold, not the groups.
func (w *windows) empty() {
	clear(w.blocks)
	clear(w.following)
}
