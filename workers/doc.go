// Package workers is the fleet: which engine instances there are, whether they
// serve, what they hold and how busy they are.
//
//	Source (static, file, etcd) -> Fleet -> one goroutine tree per Worker -> Sink (the prefix index)
//
// It owns discovery's result, health, the events' way into the index, and the
// calls to an agent. It decides nothing about routing.
//
// Invariants:
//   - A worker is in the Sink from its first description until it leaves the
//     fleet, and only its own goroutine applies events for it, in order.
//   - After a resynchronisation the Sink holds for that worker what the agent's
//     or engine's snapshot says, nothing older (law 3). Blocks in a shared store
//     survive their worker.
//   - Ready means that the engine answered /health after the last failure that a
//     dispatcher reported, that model and block size are known, and that it is
//     not ejected for doing much worse than its peers (outlier.go).
//   - A worker that vanishes from discovery but still answers stays for a grace
//     time: a discovery service that is away takes no fleet with it.
//
// Lock order: Fleet.judging and Fleet.mu before Worker.mu, of which only one is
// held at a time; the Sink is called with none held.
package workers
