package main

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
)

// benchedIndex lets a fleet's benchmark look into the index it fills.
type benchedIndex struct {
	*prefixindex.Index
	found prefixindex.Matches
}

func newBenchedIndex(blocks int) *benchedIndex {
	return &benchedIndex{Index: prefixindex.New(prefixindex.Options{MaxBlocks: 2 * blocks})}
}

// Held implements fleetbench.Index.
func (x *benchedIndex) Held(id kv.WorkerID, hashes []kv.Hash) (n int) {
	x.Match(&x.found, hashes)
	for _, s := range x.found.Spans(id) {
		n += s.Blocks
	}
	return n
}
