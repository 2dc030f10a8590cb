// Package fleetbench measures the way of block events into an index: from the
// ZMQ sockets of engines, and from agents that a gateway joins. It is what
// `kvasir bench index --wire` and `--join` run.
//
// Everything is made before anything is timed: publishers send encoded
// messages, agents hold their blocks. A measurement is over when the index has
// the last block, and counts only if a look-up then finds every one.
package fleetbench
