package policy

import (
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Eviction names the rule by which a full table chooses what goes.
type Eviction uint8

// The rules. Both take only leaves, so suffix goes before prefix.
const (
	LRU Eviction = iota // the least recently used leaf
	ARC                 // adaptive: recency against frequency, by what was evicted too early
)

// ParseEviction reads a rule's name; empty is LRU.
func ParseEviction(name string) (Eviction, error) {
	switch name {
	case "", "lru":
		return LRU, nil
	case "arc":
		return ARC, nil
	}
	return 0, fmt.Errorf("kvbm: unknown eviction policy %q; use lru or arc", name)
}

// class is which of ARC's two lists a committed slot is in. Under LRU all are in
// recent.
type class uint8

const (
	recent   class = iota // committed, and not wanted again since
	frequent              // wanted again while it was here, or soon after it had gone
	numClasses
)

// arc is what ARC knows besides the slots: what each list lost lately, and how
// large recent should be (Megiddo and Modha, FAST 2003). It differs from the
// paper in two ways that a block manager forces on it. A slot is freed before it
// is known what will fill it, so a block's ghost moves the target after the
// eviction and not before. And a list's victim is its oldest leaf.
type arc struct {
	capacity int
	target   int // of recent, 0 to capacity
	ghosts   [numClasses]ghosts
}

// admit says in which list a block begins, and learns from its ghost.
func (a *arc) admit(h kv.Hash) class {
	r, f := a.ghosts[recent].len(), a.ghosts[frequent].len()
	switch {
	case a.ghosts[recent].remove(h):
		a.target = min(a.capacity, a.target+max(1, f/r))
	case a.ghosts[frequent].remove(h):
		a.target = max(0, a.target-max(1, r/f))
	default:
		return recent
	}
	return frequent
}

// evicted remembers what a list lost; here is how many slots each list has.
func (a *arc) evicted(h kv.Hash, from class, here [numClasses]int) {
	a.ghosts[from].add(h)
	for here[recent]+a.ghosts[recent].len() > a.capacity && a.ghosts[recent].len() > 0 {
		a.ghosts[recent].forget()
	}
	for a.ghosts[recent].len()+a.ghosts[frequent].len() > a.capacity {
		if a.ghosts[frequent].len() > 0 {
			a.ghosts[frequent].forget()
		} else {
			a.ghosts[recent].forget()
		}
	}
}
