package events

import (
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// place counts how often one KV cache group said that it stored a block in a
// tier, less how often that it removed it: engines may hold a block twice.
//
// A block is in a tier when all of the groups that ever stored anything there
// have it: an engine reuses a prefix only as far as every kind of its layers
// has it.
type place struct {
	count uint32
	group uint16
	tier  kv.Tier
}

func (p place) same(q place) bool { return p.group == q.group && p.tier == q.tier }

// meet takes note of a group that was not seen in a tier before. What the other
// groups hold there is not whole without it.
func (t *translator) meet(out []kv.Event, p place) []kv.Event {
	if slices.Contains(t.groups[p.tier], p.group) {
		return out
	}
	if t.occupied[p.tier] > 0 {
		t.names.each(func(n *name) {
			if n.resolved && t.holds(n, p.tier) {
				out = t.untell(out, n, p.tier)
			}
		})
	}
	t.groups[p.tier] = append(t.groups[p.tier], p.group)
	return out
}

// holds reports whether a block is in a tier.
func (t *translator) holds(n *name, tier kv.Tier) bool {
	if !n.spread {
		return n.at.count > 0 && n.at.tier == tier && len(t.groups[tier]) == 1
	}
	in := 0
	if n.at.tier == tier {
		in++
	}
	for _, q := range t.elsewhere[n.engine] {
		if q.tier == tier {
			in++
		}
	}
	return in > 0 && in == len(t.groups[tier])
}

// count enters a block in a place, and reports whether it was not there. Again
// means that the same copy may have been counted before.
func (t *translator) count(n *name, p place, again bool) bool {
	switch {
	case n.at.count == 0:
		p.count = 1
		n.at = p
		return true
	case n.at.same(p):
		if !again {
			n.at.count++
		}
		return false
	}
	more := t.elsewhere[n.engine]
	for i := range more {
		if more[i].same(p) {
			if !again {
				more[i].count++
			}
			return false
		}
	}
	p.count = 1
	t.elsewhere[n.engine] = append(more, p)
	n.spread = true
	return true
}

// discount takes one count of a block out of a place, and reports whether that
// was the last.
func (t *translator) discount(n *name, p place) bool {
	if n.at.count > 0 && n.at.same(p) {
		if n.at.count--; n.at.count == 0 {
			t.promote(n)
			return true
		}
		return false
	}
	if !n.spread {
		return false
	}
	more := t.elsewhere[n.engine]
	i := slices.IndexFunc(more, p.same)
	if i < 0 {
		return false
	}
	if more[i].count--; more[i].count > 0 {
		return false
	}
	t.setElsewhere(n, slices.Delete(more, i, i+1))
	return true
}

// promote puts a place from elsewhere where the first one was.
func (t *translator) promote(n *name) {
	n.at = place{}
	if n.spread {
		more := t.elsewhere[n.engine]
		n.at = more[len(more)-1]
		t.setElsewhere(n, more[:len(more)-1])
	}
}

func (t *translator) setElsewhere(n *name, more []place) {
	if n.spread = len(more) > 0; n.spread {
		t.elsewhere[n.engine] = more
	} else {
		delete(t.elsewhere, n.engine)
	}
}

// vacate takes a block out of all tiers of which gone says so.
func (t *translator) vacate(n *name, gone func(kv.Tier) bool) {
	if n.spread {
		t.setElsewhere(n, slices.DeleteFunc(t.elsewhere[n.engine], func(p place) bool { return gone(p.tier) }))
	}
	if gone(n.at.tier) {
		t.promote(n)
	}
}
