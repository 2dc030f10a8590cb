// Package disk keeps blocks in one slab file on a local disk, across restarts.
//
// A folder holds three files: lock (two processes never share a slab), slab (a
// superblock, then equal slots) and journal (what is in which slot). Slots are
// read and written with O_DIRECT straight from and to the block manager's host
// slots, or through the page cache where the file system refuses O_DIRECT.
//
// # Journal
//
// 64-byte records, each with its own checksum: a commit after a slot's data was
// written, a tombstone before the slot is written again. Recovery replays them
// and skips records that do not check. That is safe whatever is lost, because
// each commit carries the checksum of its data and every read verifies it: a
// lost commit is a lost block, a lost tombstone is a block that fails its
// checksum, at worst. A checkpoint is a new journal that starts with what is
// live; it replaces the old one by rename.
//
// Records survive the death of the process as soon as they are written. They
// survive the death of the machine after the next group fdatasync, once a second.
//
// A record's sequence number is also the generation of its slot: of two records
// for one slot, or of two slots with one block, the higher one counts.
//
// # Pre-writing
//
// The first write into an allocated but unwritten extent costs the file system
// extra work. Space is allocated when the slab is made, so a full disk shows
// then, and slots not yet used are written with zeros in the background, slowly,
// so that neither start-up nor other users of the disk wait.
//
// # Who decides
//
// Which slot a block goes to is the block manager's decision, as is that nobody
// reads a slot that is being written. Store's methods are safe for concurrent
// use on different slots.
//
// Lock order: Store.prewrite.mu and Store.journal.mu are never held together.
package disk
