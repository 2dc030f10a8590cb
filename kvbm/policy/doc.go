// Package policy decides for the block manager: which slot is in which state,
// which block goes when a tier is full, which transfer is next, when a failing
// store is left alone, what a disk may be burdened with.
//
// It is pure: no clock, socket, goroutine or logger; time comes in as a value.
// So the live manager and the simulator run the very same code. Nothing here
// locks: the caller serialises.
//
// Invariants:
//   - Law 1: every slot is in exactly one state; free + filling + committed +
//     evicting = capacity. Table.Check proves it; build with the tag
//     `invariants` to have it proved after every change.
//   - A leased slot is never evicted.
//   - Suffix before prefix: a block is not evicted while an unleased block that
//     follows it is committed in the same table. What is left of a prefix is
//     thus always usable from its first block on.
//   - A committed slot's block never changes.
package policy
