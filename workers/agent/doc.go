// Package agent is the process beside an engine, as seen from outside: its gRPC
// control API (agentpb) over a block manager, the engine's own KV events and
// the engine's metrics.
//
//	engine events (ZMQ) --\
//	                        hub: merged, numbered, bounded log --> WatchBlocks
//	block manager events -/
//	engine /metrics + manager figures --------------------------> WatchStats
//	gateway's restore plan -------------------------------------> manager.Onboard
//
// Invariants:
//   - A snapshot and the deltas after it are one truth: replaying the deltas from
//     the agent's start on an empty index gives what a snapshot gives (law 3).
//   - A watcher never holds anybody up. It reads the log at its own pace; one that
//     falls behind the log is cut, and takes a snapshot next time.
//   - Of one tier only one source is believed where both know it: the engine about
//     its own pages when it publishes events.
//
// Lock order: hub.mu before nothing; inbox.mu is never held with it. The block
// manager calls into the inbox with its own lock held, so the inbox calls
// nobody.
package agent
