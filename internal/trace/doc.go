// Package trace holds workloads: who asks what, and when.
//
// It owns the Trace type, the reader of Mooncake's trace format, and generators
// of synthetic workloads. A prompt is a list of block ids: equal ids mean equal
// blocks behind equal prefixes, so ids are all that a cache needs to know.
//
// Invariants, which Check proves and every Trace from Read or Synthesize keeps:
// arrivals do not go back in time, every request has at least one token each way,
// and exactly the blocks that its prompt fills or begins.
package trace
