// Package host owns memory for blocks: one mapping of a memfd, cut into
// contiguous slots.
//
// Each slot starts on a 4 KiB boundary and is a multiple of it long, so that
// O_DIRECT reads and writes go straight from and to it. It is a memfd so that a
// plug-in in the engine's process can map the same memory by its descriptor
// (Share). It lies in reserved huge pages if there are enough, and is spread over
// the nodes of a machine that has several. Pages are touched on first use, so a
// large pool costs nothing at start-up, or in parallel in the background (Touch)
// when a driver is going to pin them all anyway.
//
// The package knows nothing of blocks or slot states; who may read or write a
// slot is the block manager's business.
package host
