// Package kvbm is the block manager: it keeps KV blocks in tiers (gpu, cpu,
// disk, redis, peer), moves them down as they are computed and up as they are wanted,
// and says at any time which block is where.
//
// It is a thin executor around kvbm/policy, which decides. The packages host,
// disk, redisstore and peer hold or bring the bytes of one tier each.
//
// # The way down
//
// A block that the engine commits in the gpu pool is offered to cpu; one that
// is committed in cpu is offered to disk and to Redis (write-through, lowest
// priority). Offering never blocks: a link whose queue is full drops the offer
// and counts it. What was not written for want of room or of a working store is
// offered again when the store works and has nothing else to do. A block that is evicted from the gpu pool before its offload
// began is lost to the lower tiers and counted as dropped; it is not copied in
// haste, because that would make the engine wait.
//
// # The way up
//
// Onboard brings the leading blocks of a prompt into the target tier: gpu if the
// manager owns the engine's pool, else cpu. Each block is a flight, shared by
// all who want it; a flight from disk or Redis lands in cpu first, as ordinary
// cache content, and goes on to gpu while the next block is being read.
// Anything that fails or is late is a miss, and a miss ends the prefix. An
// onboarding has no goroutine: whoever lands a block asks for the next one.
//
// A block that the router found in a peer's cpu is pulled from there first, then
// from the next peer named, then looked for in the tiers below. An engine's
// onboarding that could only come from peers waits a moment for the router's
// call, which names them.
//
// # Tiers that are shared
//
// In Redis each block has its place on one server, by rendezvous hashing. What is
// believed to be there is found by asking each server once, at the start and
// when it came back, and is checked a few hundred blocks a second. A peer is lent
// at most a quarter of the cpu slots at a time, each under a lease.
//
// # Calls
//
// A link moves blocks in calls: up to 8 MB of them between memories, one block
// to or from a store. A call is never interrupted, and the next one is chosen
// when it ends, most urgent block first. No offload to a store begins while a
// demand load of that store waits, and beside those that run, one at most; so a
// demand load is delayed by no more than the call that it meets.
//
// # Without a cpu tier
//
// When disk or Redis is on but CPUBytes is 0, a small staging pool stands in.
// What it holds is not advertised: no events, no part in Lookup. Disk and Redis
// go before it as a source.
//
// # Invariants
//
//   - Law 1: in every pool and on disk, free + filling + committed + evicting =
//     capacity.
//   - Law 2: bytes served for a hash are the bytes stored for it. They are
//     written once, before the commit; what comes from disk or Redis is verified
//     against its checksum on every read.
//   - Law 3 (this side of it): snapshot and later events of Watch, replayed, give
//     what Lookup says.
//   - Law 6: each job of a link ends in exactly one counter of LinkStats.
//
// # Locks
//
// Manager.mu guards all state: tables, queues, flights, plans, counters. It is
// never held during I/O or a copy. Watch's sinks and flights' deliver functions
// run under it and must neither block nor call back. disk.Store has locks of its
// own, which are taken only while Manager.mu is not held.
package kvbm
