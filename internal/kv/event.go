package kv

import "fmt"

// WorkerID names one engine instance and its agent.
type WorkerID string

// EventKind says what happened to blocks.
type EventKind uint8

// The kinds of block events.
const (
	Stored  EventKind = iota + 1 // Blocks came to be in Tier
	Removed                      // Blocks are no longer in Tier
	Cleared                      // nothing is in Tier any more
)

// String is the kind's name in logs and scenario files.
func (k EventKind) String() string {
	switch k {
	case Stored:
		return "stored"
	case Removed:
		return "removed"
	case Cleared:
		return "cleared"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Event is one change of what a worker holds in a tier.
//
// Hashes of a Stored event are a chain: Hashes[0] follows Parent, which is the
// root for a prompt's first block, and each further hash follows the one before
// it. Those of a Removed event are in no order and Parent is zero. A Cleared
// event has neither.
//
// Events about the Redis tier come from the worker that wrote or lost the
// blocks, but they hold for every worker that shares the store.
type Event struct {
	Kind   EventKind
	Tier   Tier
	Parent Hash
	Hashes []Hash
}
