// Package indexbench measures a prefixindex.Index: lookups while events are
// applied at a given rate, the highest rate of events, and memory. It is what
// `kvasir bench index` runs.
//
// Unlike the index itself it uses clocks and goroutines. The prompts and events
// are made before anything is timed; a rate of events counts blocks named in
// them, and is over when the last one is applied.
package indexbench
