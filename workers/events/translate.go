package events

import "github.com/kvasir-ai/kvasir/internal/kv"

const (
	// maxOrphans bounds the blocks that wait for their parent.
	maxOrphans = 1 << 16
	// maxRemembered bounds the names kept of blocks that are in no tier any
	// more: an offload event may name one as parent, late.
	maxRemembered = 1 << 16
)

// translator turns an engine's events into ours. Pure: one stream, one
// goroutine.
type translator struct {
	root   kv.RootSpec // model and block size
	sglang bool
	stats  *ReaderStats

	names    map[EngineHash]*name
	orphans  map[EngineHash][]orphan // by the parent that they wait for
	waiting  int                     // blocks' worth of tokens in orphans
	ghosts   []EngineHash            // names in no tier, oldest first
	occupied [kv.NumTiers]int        // resolved blocks in each tier
}

// name is what an engine hash stands for.
type name struct {
	ours, parent kv.Hash
	resolved     bool // ours is known
	odd          bool // never will be: it holds more than tokens
	at           []place
	one          [1]place // at's first home: most blocks are in one place
}

// place counts how often one KV cache group said that it stored a block in a
// tier, less how often that it removed it: engines may hold a block twice.
type place struct {
	group int
	tier  kv.Tier
	count int
}

// orphan is a run of blocks whose parent is not known yet.
type orphan struct {
	hashes []EngineHash
	tokens []uint32 // of the hashes' blocks and those before them
	odd    int
}

func newTranslator(model string, blockSize int, sglang bool, stats *ReaderStats) *translator {
	t := &translator{root: kv.RootSpec{Model: model, BlockSize: blockSize}, sglang: sglang, stats: stats}
	t.forget()
	return t
}

// forget drops everything.
func (t *translator) forget() {
	t.names = map[EngineHash]*name{}
	t.orphans = map[EngineHash][]orphan{}
	t.waiting, t.ghosts = 0, nil
	t.occupied = [kv.NumTiers]int{}
}

// reset drops everything and appends the events that say so.
func (t *translator) reset(out []kv.Event) []kv.Event {
	for tier := range kv.NumTiers {
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
	case "STORAGE", "DISK", "FS":
		return kv.Disk, true
	}
	return 0, false
}

// apply appends to out what an engine's event changes.
func (t *translator) apply(out []kv.Event, e *Event) []kv.Event {
	tier, known := tierOf(e.Medium)
	switch {
	case e.unknown || e.remote || !known:
		t.stats.UnknownEvents++
		return out
	case e.window:
		t.stats.WindowEvents++
		return out
	}
	switch e.Kind {
	case kv.Stored:
		out = t.store(out, e, tier)
	case kv.Removed:
		for _, h := range e.Hashes {
			out = t.remove(out, h, place{group: e.Group, tier: tier})
		}
	case kv.Cleared:
		out = t.clear(out)
	}
	return out
}

func (t *translator) store(out []kv.Event, e *Event, tier kv.Tier) []kv.Event {
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
	if t.rootless(e, tier) && !t.named(e.Hashes) {
		t.stats.Uncovered += uint64(len(e.Hashes))
		return out
	}
	for _, h := range e.Hashes {
		out = t.put(out, h, place{group: e.Group, tier: tier})
	}
	if t.named(e.Hashes) {
		return out // nothing new: an engine hash stands for one block
	}
	run := orphan{hashes: e.Hashes, tokens: e.Tokens, odd: e.odd}
	if e.Parent == nil {
		root := t.root
		root.LoRA, root.Salt = e.LoRA, e.Salt
		return t.resolve(out, run, &name{ours: root.Hash(), resolved: true})
	}
	if p := t.names[*e.Parent]; p != nil && (p.resolved || p.odd) {
		return t.resolve(out, run, p)
	}
	if first := t.names[e.Hashes[0]]; first.resolved && len(e.Hashes) == len(e.Tokens)/e.BlockSize {
		return t.resolve(out, run, &name{ours: first.parent, resolved: true})
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

// named reports whether all hashes have their meaning.
func (t *translator) named(hashes []EngineHash) bool {
	for _, h := range hashes {
		if n := t.names[h]; n == nil || !n.resolved && !n.odd {
			return false
		}
	}
	return true
}

// put counts a block in a place, and tells of it if its name is known.
func (t *translator) put(out []kv.Event, h EngineHash, p place) []kv.Event {
	n := t.names[h]
	if n == nil {
		n = &name{}
		n.at = n.one[:0]
		t.names[h] = n
	}
	held := n.in(p.tier)
	found := false
	for i := range n.at {
		if n.at[i].group == p.group && n.at[i].tier == p.tier {
			n.at[i].count++
			found = true
		}
	}
	if !found {
		p.count = 1
		n.at = append(n.at, p)
	}
	if n.resolved && !held {
		out = t.tell(out, n, p.tier)
	}
	return out
}

// tell appends that a block is in a tier now, to the run before it if it
// continues that.
func (t *translator) tell(out []kv.Event, n *name, tier kv.Tier) []kv.Event {
	t.occupied[tier]++
	if len(out) > 0 {
		last := &out[len(out)-1]
		if last.Kind == kv.Stored && last.Tier == tier && last.Hashes[len(last.Hashes)-1] == n.parent {
			last.Hashes = append(last.Hashes, n.ours)
			return out
		}
	}
	return append(out, kv.Event{Kind: kv.Stored, Tier: tier, Parent: n.parent, Hashes: []kv.Hash{n.ours}})
}

// resolve names a run of blocks that follows before, and then the orphans that
// waited for one of them.
func (t *translator) resolve(out []kv.Event, run orphan, before *name) []kv.Event {
	type work struct {
		run    orphan
		before *name
	}
	for todo := []work{{run, before}}; len(todo) > 0; {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		parent, odd := w.before.ours, w.before.odd
		size := t.root.BlockSize
		ahead := len(w.run.tokens)/size - len(w.run.hashes) // blocks without a hash of their own
		for i := range ahead {
			parent = parent.Child(w.run.tokens[i*size : (i+1)*size])
		}
		tokens := w.run.tokens[ahead*size:]
		for i, h := range w.run.hashes {
			odd = odd || i >= w.run.odd
			n := t.names[h]
			if n == nil { // removed while it waited; its children may be there yet
				n = &name{}
				t.names[h] = n
				t.bury(h)
			}
			if !n.resolved && !n.odd {
				out = t.christen(out, n, parent, tokens[i*size:(i+1)*size], odd)
			}
			parent = n.ours
			for _, o := range t.orphans[h] {
				t.waiting -= len(o.tokens) / size
				todo = append(todo, work{o, n})
			}
			delete(t.orphans, h)
		}
	}
	return out
}

// christen gives a block its name, and tells where it is.
func (t *translator) christen(out []kv.Event, n *name, parent kv.Hash, tokens []uint32, odd bool) []kv.Event {
	if odd {
		n.odd = true
		t.stats.Uncovered++
		return out
	}
	n.ours, n.parent, n.resolved = parent.Child(tokens), parent, true
	var told kv.TierSet
	for _, p := range n.at {
		if !told.Has(p.tier) {
			told = told.With(p.tier)
			out = t.tell(out, n, p.tier)
		}
	}
	return out
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
	t.orphans[parent] = append(t.orphans[parent], run)
	t.waiting += len(run.tokens) / t.root.BlockSize
}

func (t *translator) giveUp(o orphan) {
	for _, h := range o.hashes {
		if n := t.names[h]; n != nil && !n.resolved {
			delete(t.names, h)
		}
	}
	t.stats.OrphansLost += uint64(len(o.hashes))
}

// remove takes one count of a block out of a place.
func (t *translator) remove(out []kv.Event, h EngineHash, p place) []kv.Event {
	n := t.names[h]
	if n == nil {
		return out // a placeholder, or stored before we looked
	}
	i := 0
	for i < len(n.at) && (n.at[i].group != p.group || n.at[i].tier != p.tier) {
		i++
	}
	if i == len(n.at) {
		return out
	}
	if n.at[i].count--; n.at[i].count > 0 {
		return out
	}
	n.at = append(n.at[:i], n.at[i+1:]...)
	if len(n.at) == 0 {
		t.bury(h)
	}
	if !n.resolved || n.in(p.tier) {
		return out
	}
	t.occupied[p.tier]--
	if len(out) > 0 {
		if last := &out[len(out)-1]; last.Kind == kv.Removed && last.Tier == p.tier {
			last.Hashes = append(last.Hashes, n.ours)
			return out
		}
	}
	return append(out, kv.Event{Kind: kv.Removed, Tier: p.tier, Hashes: []kv.Hash{n.ours}})
}

func (n *name) in(tier kv.Tier) bool {
	for _, p := range n.at {
		if p.tier == tier {
			return true
		}
	}
	return false
}

// bury remembers the name of a block that is nowhere, and forgets the oldest of
// such names when there are too many.
func (t *translator) bury(h EngineHash) {
	t.ghosts = append(t.ghosts, h)
	if len(t.ghosts) <= 2*maxRemembered {
		return
	}
	for _, old := range t.ghosts[:maxRemembered] {
		if n := t.names[old]; n != nil && len(n.at) == 0 {
			delete(t.names, old)
		}
	}
	t.ghosts = append([]EngineHash(nil), t.ghosts[maxRemembered:]...)
}

// clear handles AllBlocksCleared: no medium, and for vLLM it means that of the
// GPU. Names keep their meaning: the engine still hashes the same way.
func (t *translator) clear(out []kv.Event) []kv.Event {
	for h, n := range t.names {
		kept := n.at[:0]
		for _, p := range n.at {
			if p.tier != kv.GPU && !t.sglang {
				kept = append(kept, p)
			}
		}
		if len(n.at) > 0 && len(kept) == 0 {
			t.bury(h)
		}
		n.at = kept
	}
	for tier := range kv.NumTiers {
		if t.occupied[tier] > 0 && (tier == kv.GPU || t.sglang) {
			t.occupied[tier] = 0
			out = append(out, kv.Event{Kind: kv.Cleared, Tier: tier})
		}
	}
	return out
}

// describe fills in the figures that are states, not counts.
func (t *translator) describe() {
	t.stats.Orphans, t.stats.Blocks = t.waiting, t.occupied
}
