package policy

import (
	"container/list"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// ghosts are names of blocks in the order in which they came.
type ghosts struct {
	byHash map[kv.Hash]*list.Element
	order  list.List
}

func (g *ghosts) len() int { return len(g.byHash) }

func (g *ghosts) has(h kv.Hash) bool {
	_, ok := g.byHash[h]
	return ok
}

func (g *ghosts) add(h kv.Hash) {
	if g.byHash == nil {
		g.byHash = make(map[kv.Hash]*list.Element)
	}
	g.remove(h)
	g.byHash[h] = g.order.PushBack(h)
}

func (g *ghosts) remove(h kv.Hash) bool {
	e, ok := g.byHash[h]
	if ok {
		g.order.Remove(e)
		delete(g.byHash, h)
	}
	return ok
}

// forget drops the oldest.
func (g *ghosts) forget() { g.remove(g.order.Front().Value.(kv.Hash)) }
