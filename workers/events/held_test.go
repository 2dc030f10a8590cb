package events

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// held is a naive index: per tier the blocks and what they follow.
type held struct {
	t     testing.TB
	tiers [kv.NumMarks]map[kv.Hash]kv.Hash
}

func newHeld(t testing.TB) *held {
	h := &held{t: t}
	for i := range h.tiers {
		h.tiers[i] = map[kv.Hash]kv.Hash{}
	}
	return h
}

// apply takes events and insists that each changes something: a block is not
// stored twice, and nothing is removed that is not there.
func (h *held) apply(events []kv.Event) {
	h.t.Helper()
	for _, e := range events {
		tier := h.tiers[e.Tier]
		switch e.Kind {
		case kv.Stored:
			parent := e.Parent
			for _, hash := range e.Hashes {
				if _, dup := tier[hash]; dup {
					h.t.Fatalf("block %v stored twice in %v", hash, e.Tier)
				}
				tier[hash] = parent
				parent = hash
			}
		case kv.Removed:
			for _, hash := range e.Hashes {
				if _, ok := tier[hash]; !ok {
					h.t.Fatalf("block %v removed from %v, where it is not", hash, e.Tier)
				}
				delete(tier, hash)
			}
		case kv.Cleared:
			clear(tier)
		}
	}
}

func (h *held) counts() (n [kv.NumMarks]int) {
	for t := range h.tiers {
		n[t] = len(h.tiers[t])
	}
	return n
}

func (h *held) equal(o *held) bool {
	for t := range h.tiers {
		if !maps.Equal(h.tiers[t], o.tiers[t]) {
			return false
		}
	}
	return true
}

func (h *held) String() string {
	var w strings.Builder
	for t, blocks := range h.tiers {
		fmt.Fprintf(&w, "%v:", kv.Tier(t))
		var lines []string
		for hash, parent := range blocks {
			lines = append(lines, fmt.Sprintf(" %.6s<%.6s", hash, parent))
		}
		slices.Sort(lines)
		w.WriteString(strings.Join(lines, "") + "\n")
	}
	return w.String()
}
