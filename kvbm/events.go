package kvbm

import (
	"iter"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// Watch calls sink with every change of what is in which tier, in order, from
// the returned snapshot on: nothing is missed or told twice in between. The
// sink runs under the manager's lock, so it must neither block nor call the
// manager. stop ends the calls; none is under way when it returns.
func (m *Manager) Watch(sink func([]kv.Event)) (snapshot []kv.Event, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t := range kv.NumTiers {
		if blocks := m.contents(t); blocks != nil {
			snapshot = appendChains(snapshot, t, blocks)
		}
	}
	m.nextWatcher++
	id := m.nextWatcher
	m.watchers[id] = sink
	return snapshot, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, id)
	}
}

// Lookup says for the leading blocks of a prompt in which tiers they are, up to
// the first that is nowhere. Of Redis it knows what this manager has written or
// read there.
func (m *Manager) Lookup(hashes []kv.Hash) []kv.Span {
	m.mu.Lock()
	defer m.mu.Unlock()
	var spans []kv.Span
	for _, h := range hashes {
		in := m.tiersOf(h)
		if in == 0 {
			break
		}
		if n := len(spans); n > 0 && spans[n-1].Tiers == in {
			spans[n-1].Blocks++
		} else {
			spans = append(spans, kv.Span{Blocks: 1, Tiers: in})
		}
	}
	return spans
}

func (m *Manager) tiersOf(h kv.Hash) (in kv.TierSet) {
	if m.gpu != nil && m.gpu.table.Has(h) {
		in = in.With(kv.GPU)
	}
	if m.cpu != nil && m.cpu.advertise && m.cpu.table.Has(h) {
		in = in.With(kv.CPU)
	}
	if m.disk != nil && m.disk.table.Has(h) {
		in = in.With(kv.Disk)
	}
	if m.redis != nil && m.redis.known.Has(h) {
		in = in.With(kv.Redis)
	}
	return in
}

// contents yields what is advertised as being in a tier; nil when it is off.
func (m *Manager) contents(t kv.Tier) iter.Seq[kv.Block] {
	table := m.tableOf(t)
	switch {
	case t == kv.Redis && m.redis != nil:
		return m.redis.known.All()
	case table == nil || t == kv.CPU && !m.cpu.advertise:
		return nil
	}
	return func(yield func(kv.Block) bool) {
		for _, b := range table.All() {
			if !yield(b) {
				return
			}
		}
	}
}

// appendChains tells a tier's blocks as Stored events, each a chain as long as
// it can be, parents before their children.
func appendChains(dst []kv.Event, t kv.Tier, blocks iter.Seq[kv.Block]) []kv.Event {
	here := map[kv.Hash]bool{}
	heirs := map[kv.Hash][]kv.Hash{}
	for b := range blocks {
		here[b.Hash] = true
		heirs[b.Parent] = append(heirs[b.Parent], b.Hash)
	}
	var heads []kv.Block
	for b := range blocks {
		if !here[b.Parent] {
			heads = append(heads, b)
		}
	}
	for len(heads) > 0 {
		head := heads[len(heads)-1]
		heads = heads[:len(heads)-1]
		chain := []kv.Hash{head.Hash}
		for {
			last := chain[len(chain)-1]
			next := heirs[last]
			if len(next) == 0 {
				break
			}
			for _, h := range next[1:] {
				heads = append(heads, kv.Block{Hash: h, Parent: last})
			}
			chain = append(chain, next[0])
		}
		dst = append(dst, kv.Event{Kind: kv.Stored, Tier: t, Parent: head.Parent, Hashes: chain})
	}
	return dst
}

// The methods below are called with mu held.

func (m *Manager) emit(e kv.Event) {
	if e.Tier == kv.CPU && !m.cpu.advertise {
		return
	}
	for _, sink := range m.watchers {
		sink([]kv.Event{e})
	}
}

func (m *Manager) stored(t kv.Tier, b kv.Block) {
	m.tiers[t].stored++
	m.emit(kv.Event{Kind: kv.Stored, Tier: t, Parent: b.Parent, Hashes: []kv.Hash{b.Hash}})
}

func (m *Manager) removed(t kv.Tier, gone []kv.Hash) {
	if len(gone) > 0 {
		m.emit(kv.Event{Kind: kv.Removed, Tier: t, Hashes: gone})
	}
}

// evicted tells that blocks had to make room. The copy in the next tier down is
// now the nearest one, and so it counts as used.
func (m *Manager) evicted(t kv.Tier, gone []kv.Hash) {
	m.tiers[t].evicted += uint64(len(gone))
	m.removed(t, gone)
	lower := m.below(t)
	if lower == nil {
		return
	}
	for _, h := range gone {
		if s, ok := lower.Find(h); ok {
			lower.Touch(s)
		}
	}
}

// below is the table of the next tier down. What leaves a staging pool only
// passed through, which is no use of it.
func (m *Manager) below(t kv.Tier) *policy.Table {
	staging := m.cpu != nil && !m.cpu.advertise
	switch {
	case t == kv.GPU && !staging:
		return m.tableOf(kv.CPU)
	case t == kv.GPU, t == kv.CPU && !staging:
		return m.tableOf(kv.Disk)
	}
	return nil
}
