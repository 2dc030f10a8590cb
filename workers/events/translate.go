package events

import (
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	// maxOrphans bounds the blocks that wait for their parent.
	maxOrphans = 1 << 16
	// maxRemembered bounds the names kept of blocks that are in no tier any
	// more: an offload event may name one as parent, late.
	maxRemembered = 1 << 16
)

// translator turns an engine's events into ours. Pure: one stream, one
// goroutine. The hashes of the events it returns are good until emptied is
// called.
type translator struct {
	root   kv.RootSpec // model and block size
	sglang bool
	stats  *ReaderStats

	names     names
	elsewhere map[EngineHash][]place // of names that are spread: places besides the first
	orphans   map[EngineHash][]orphan
	waiting   int          // blocks' worth of tokens in orphans
	ghosts    []EngineHash // names in no tier, oldest first
	groups    [kv.NumMarks][]uint16
	windows   windows
	occupied  [kv.NumMarks]int // resolved blocks in each tier

	hashes []kv.Hash // of the events appended since emitted
	run    []*name   // of the event being stored
	chain  []kv.Hash // of the run being resolved, the one before it first
	warmed uint32
}

// orphan is a run of blocks whose parent is not known yet.
type orphan struct {
	hashes []EngineHash
	tokens []uint32 // of the hashes' blocks and those before them
	odd    int
	first  bool // the tokens are those that the prompt begins with
}

func newTranslator(model string, blockSize int, sglang bool, stats *ReaderStats) *translator {
	t := &translator{root: kv.RootSpec{Model: model, BlockSize: blockSize}, sglang: sglang, stats: stats}
	t.forget()
	return t
}

// forget drops everything.
func (t *translator) forget() {
	t.names = newNames()
	t.elsewhere = map[EngineHash][]place{}
	t.orphans = map[EngineHash][]orphan{}
	t.waiting, t.ghosts = 0, nil
	t.groups, t.windows = [kv.NumMarks][]uint16{}, newWindows()
	t.occupied = [kv.NumMarks]int{}
}

// emptied lets the memory of the events returned so far be used again.
func (t *translator) emptied() { t.hashes = t.hashes[:0] }

// reset drops everything and appends the events that say so.
func (t *translator) reset(out []kv.Event) []kv.Event {
	for tier := range kv.NumMarks {
		if t.occupied[tier] > 0 {
			out = append(out, kv.Event{Kind: kv.Cleared, Tier: tier})
		}
	}
	t.forget()
	return out
}

// tierOf maps the media that vLLM and SGLang name.
func tierOf(medium string) (kv.Tier, bool) {
	switch medium {
	case "", MediumGPU:
		return kv.GPU, true
	case MediumCPU, "CPU_PINNED":
		return kv.CPU, true
	case "STORAGE", "DISK", "FS", "OBJ", "EXTERNAL":
		return kv.Disk, true
	}
	return 0, false
}

// apply appends to out what an engine's event changes.
func (t *translator) apply(out []kv.Event, e *Event) []kv.Event {
	tier, known := tierOf(e.Medium)
	if e.unknown || e.remote || !known || e.Group < 0 || e.Group > maxGroup {
		t.stats.UnknownEvents++
		return out
	}
	p := place{group: uint16(e.Group), tier: tier}
	switch e.Kind {
	case kv.Stored:
		if e.window {
			return t.storeWindow(out, e, p)
		}
		return t.store(out, e, p)
	case kv.Removed:
		if tier == kv.GPU && slices.Contains(t.groups[kv.Resume], p.group) {
			p.tier = kv.Resume
		}
		t.warmed += t.names.warm(e.Hashes)
		for _, h := range e.Hashes {
			out = t.remove(out, h, p)
		}
	case kv.Cleared:
		out = t.clear(out)
	}
	return out
}

func (t *translator) store(out []kv.Event, e *Event, p place) []kv.Event {
	if len(e.Tokens) == 0 || e.BlockSize == 0 {
		t.stats.Placeholders += uint64(len(e.Hashes))
		return out
	}
	if t.root.BlockSize == 0 {
		t.root.BlockSize = e.BlockSize
	}
	if e.BlockSize != t.root.BlockSize || len(e.Hashes) > len(e.Tokens)/e.BlockSize {
		t.stats.Mismatched += uint64(len(e.Hashes))
		return out
	}
	if len(e.Hashes) == 0 {
		return out
	}
	if t.rootless(e, p.tier) && !t.named(e.Hashes) {
		t.stats.Uncovered += uint64(len(e.Hashes))
		return out
	}
	out = t.meet(t.makeRoom(out, len(e.Hashes)), p)
	// vLLM tells of a prompt's reused blocks again when asked to, in events that
	// look as if it had stored them; counting those would keep the blocks for
	// ever. A prompt that begins with blocks that are held reuses them, unless
	// there is no window to resume it from.
	again := e.reused || e.Parent == nil && p.tier == kv.GPU && len(t.windows.needs) == 0
	t.warmed += t.names.warm(e.Hashes)
	t.run = t.run[:0]
	named := true
	for _, h := range e.Hashes {
		n := t.names.findOrAdd(h)
		t.run = append(t.run, n)
		named = named && (n.resolved || n.odd)
		if t.count(n, p, again) && n.resolved && t.holds(n, p.tier) {
			out = t.tell(out, n, p.tier)
		}
	}
	if named { // nothing new, for an engine hash stands for one block
		return out
	}
	run := orphan{hashes: e.Hashes, tokens: e.Tokens, odd: e.odd}
	if e.Parent == nil {
		root := t.root
		root.LoRA, root.Salt = e.LoRA, e.Salt
		run.first = true
		return t.resolve(out, run, root.Hash(), false)
	}
	if before := t.names.find(*e.Parent); before != nil && (before.resolved || before.odd) {
		return t.resolve(out, run, before.ours, before.odd)
	}
	if first := t.run[0]; first.resolved && len(e.Hashes) == len(e.Tokens)/e.BlockSize {
		return t.resolve(out, run, first.parent, false)
	}
	t.hold(*e.Parent, run)
	return out
}

// rootless reports whether a prompt's first block may have been salted without
// the event saying so. Old vLLM says nothing about any salt, and vLLM's offload
// events still do not.
func (t *translator) rootless(e *Event, tier kv.Tier) bool {
	return e.rootless || e.Parent == nil && !e.extra.known && tier != kv.GPU && !t.sglang
}

// makeRoom forgets everything when there may be no numbers for n more names.
func (t *translator) makeRoom(out []kv.Event, n int) []kv.Event {
	if !t.names.full(n) {
		return out
	}
	t.stats.Resyncs++
	return t.reset(out)
}

// named reports whether all hashes have their meaning.
func (t *translator) named(hashes []EngineHash) bool {
	for _, h := range hashes {
		if n := t.names.find(h); n == nil || !n.resolved && !n.odd {
			return false
		}
	}
	return true
}

// tell appends that a block is in a tier now, to the run before it if it
// continues that.
func (t *translator) tell(out []kv.Event, n *name, tier kv.Tier) []kv.Event {
	t.occupied[tier]++
	if len(out) > 0 {
		last := &out[len(out)-1]
		if last.Kind == kv.Stored && last.Tier == tier && last.Hashes[len(last.Hashes)-1] == n.parent {
			last.Hashes = t.keep(len(last.Hashes), n.ours)
			return out
		}
	}
	return append(out, kv.Event{Kind: kv.Stored, Tier: tier, Parent: n.parent, Hashes: t.keep(0, n.ours)})
}

// untell appends that a block is no longer in a tier.
func (t *translator) untell(out []kv.Event, n *name, tier kv.Tier) []kv.Event {
	t.occupied[tier]--
	if len(out) > 0 {
		if last := &out[len(out)-1]; last.Kind == kv.Removed && last.Tier == tier {
			last.Hashes = t.keep(len(last.Hashes), n.ours)
			return out
		}
	}
	return append(out, kv.Event{Kind: kv.Removed, Tier: tier, Hashes: t.keep(0, n.ours)})
}

// keep appends a hash to those of the latest event, which are the last n kept,
// and returns them.
func (t *translator) keep(n int, h kv.Hash) []kv.Hash {
	t.hashes = append(t.hashes, h)
	return t.hashes[len(t.hashes)-n-1:]
}

// resolve names a run of blocks that follows before, and then the orphans that
// waited for one of them.
func (t *translator) resolve(out []kv.Event, run orphan, before kv.Hash, odd bool) []kv.Event {
	type work struct {
		run    orphan
		before kv.Hash
		odd    bool
	}
	size := t.root.BlockSize
	for todo := []work{{run, before, odd}}; len(todo) > 0; {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		odd := w.odd
		t.chain = kv.Chain(append(t.chain[:0], w.before), w.before, w.run.tokens, size)
		ahead := len(t.chain) - len(w.run.hashes) - 1 // blocks without a hash of their own
		ours := t.chain[ahead:]
		for i, h := range w.run.hashes {
			odd = odd || i >= w.run.odd
			n := t.names.findOrAdd(h)
			if n.at.count == 0 && !n.resolved && !n.odd { // removed while it waited; its children may be there yet
				t.ghosts = append(t.ghosts, h)
			}
			if !n.resolved && !n.odd {
				n.first = w.run.first && ahead+i == 0
				out = t.christen(out, n, ours[i:], odd)
			}
			if len(t.orphans) == 0 {
				continue
			}
			for _, o := range t.orphans[h] {
				t.waiting -= len(o.tokens) / size
				todo = append(todo, work{o, n.ours, n.odd})
			}
			delete(t.orphans, h)
		}
	}
	return out
}

// christen gives a block its name, the second of chain, and tells where it is.
func (t *translator) christen(out []kv.Event, n *name, chain []kv.Hash, odd bool) []kv.Event {
	if odd {
		n.odd = true
		t.stats.Uncovered++
		return out
	}
	n.parent, n.ours, n.resolved = chain[0], chain[1], true
	if !n.spread && n.at.tier != kv.Resume {
		if n.at.count > 0 && len(t.groups[n.at.tier]) == 1 {
			out = t.tell(out, n, n.at.tier)
		}
		return out
	}
	for tier := range kv.NumTiers {
		if t.holds(n, tier) {
			out = t.tell(out, n, tier)
		}
	}
	return t.christenWindow(out, n)
}

// hold keeps a run until its parent comes. When too many wait, the parents are
// not coming, and all are given up.
func (t *translator) hold(parent EngineHash, run orphan) {
	if t.waiting > maxOrphans {
		for _, runs := range t.orphans {
			for _, o := range runs {
				t.giveUp(o)
			}
		}
		clear(t.orphans)
		t.waiting = 0
	}
	run.hashes, run.tokens = slices.Clone(run.hashes), slices.Clone(run.tokens)
	t.orphans[parent] = append(t.orphans[parent], run)
	t.waiting += len(run.tokens) / t.root.BlockSize
}

func (t *translator) giveUp(o orphan) {
	for _, h := range o.hashes {
		if n := t.names.find(h); n != nil && !n.resolved {
			t.forgetName(n)
		}
	}
	t.stats.OrphansLost += uint64(len(o.hashes))
}

// forgetName drops a name and where it was.
func (t *translator) forgetName(n *name) {
	if n.spread {
		delete(t.elsewhere, n.engine)
	}
	t.names.drop(n.engine)
}

// remove takes one count of a block out of a place.
func (t *translator) remove(out []kv.Event, h EngineHash, p place) []kv.Event {
	n := t.names.find(h)
	if n == nil {
		return out // a placeholder, or stored before we looked
	}
	held := n.resolved && p.tier != kv.Resume && t.holds(n, p.tier)
	if !t.discount(n, p) {
		return out
	}
	if held {
		out = t.untell(out, n, p.tier)
	}
	if n.resolved && p.tier == kv.Resume {
		out = t.setWindow(out, n, p.group, false)
	}
	if n.at.count == 0 {
		t.bury(h)
	}
	return out
}

// bury remembers the name of a block that is nowhere, and forgets the oldest of
// such names when there are too many.
func (t *translator) bury(h EngineHash) {
	t.ghosts = append(t.ghosts, h)
	if len(t.ghosts) <= 2*maxRemembered {
		return
	}
	for _, old := range t.ghosts[:maxRemembered] {
		if n := t.names.find(old); n != nil && n.at.count == 0 {
			t.forgetName(n)
		}
	}
	t.ghosts = append(t.ghosts[:0], t.ghosts[maxRemembered:]...)
}

// clear handles AllBlocksCleared: no medium, and for vLLM it means that of the
// GPU. Names keep their meaning: the engine still hashes the same way.
func (t *translator) clear(out []kv.Event) []kv.Event {
	cleared := func(tier kv.Tier) bool { return tier == kv.GPU || tier == kv.Resume || t.sglang }
	var nowhere []EngineHash
	t.names.each(func(n *name) {
		if n.at.count == 0 {
			return
		}
		if t.vacate(n, cleared); n.at.count == 0 {
			nowhere = append(nowhere, n.engine)
		}
	})
	for _, h := range nowhere {
		t.bury(h)
	}
	t.windows.empty()
	for tier := range kv.NumMarks {
		if t.occupied[tier] > 0 && cleared(tier) {
			t.occupied[tier] = 0
			out = append(out, kv.Event{Kind: kv.Cleared, Tier: tier})
		}
	}
	return out
}

// describe fills in the figures that are states, not counts.
func (t *translator) describe() {
	t.stats.Orphans, t.stats.Blocks = t.waiting, [kv.NumTiers]int(t.occupied[:kv.NumTiers])
}
