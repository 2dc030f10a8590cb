// Package tierbench measures the block manager's tiers, each beside the raw
// limit of what it stands on, measured in turn with it in the same run: memory
// copies for cpu, O_DIRECT reads and writes of a plain file for disk, bare sockets
// for Redis and, between two processes, for a peer.
//
// The tier's figure is that of the whole manager: blocks committed in a pool
// until the last has arrived below (write), and an Onboard until the last has
// landed in the pool (read), checksums, journal, events and all. For the tiers that
// workers share the pool is cpu, and the two halves are two managers.
package tierbench
