// Package prefixindex knows which worker holds which prefix, in which tier.
//
// It owns a radix tree over block hashes whose edges are runs of blocks; core.go
// describes it and lists its invariants. Because a hash names everything before
// its block, the tree needs no root: a lookup starts with the prompt's first
// block, finds each run by one table lookup and compares the rest of it in
// memory order. Workers hold intervals of runs, so evicting a prompt from its
// end changes a word, not the tree. A store that several workers share (redis)
// is a holder of its own, which outlives them.
//
// It is pure: no clock, socket, goroutine or logger.
//
// # Concurrency
//
// All methods of Index are safe for concurrent use. Changes, Snapshot and Stats
// wait for each other on Index.mu, the only lock. Match takes no lock: all that
// it reads is atomic words in memory that is never taken away under it, and each
// run has a sequence number that tells it when to read the run again. Only when
// changes get in its way time after time does it wait for the lock.
//
// # Laws
//
//   - Law 3, agreement: replaying a worker's Snapshot, or the events it came
//     from, on an empty index gives the same answers.
//   - Law 5, prefix closure: an answer never has block i of a prompt without all
//     before it. A block whose parent is unknown is held, and no prompt leads to
//     it until the parent comes.
//
// # Bounds
//
// The index holds at most Options.MaxBlocks distinct blocks. When full it drops
// blocks from the end of the least recently used leaf, whoever holds them: a
// block that is stored or looked up counts as used, and a block goes before
// those it follows. Memory is reused as blocks go, and given back when three
// quarters of it are free. A run takes at most 16,384 intervals (about as many
// holders), and a position in it fits 20 bits; beyond either, memberships are
// dropped and counted, or a new run begins.
package prefixindex
