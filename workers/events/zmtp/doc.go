// Package zmtp is the part of ZeroMQ's wire protocol (ZMTP 3.0, NULL security)
// that KV events need: connections that play SUB, PUB, DEALER or ROUTER over
// tcp:// and ipc://.
//
// It owns bytes on a connection and nothing more. Queues, fan-out, topics and
// reconnecting belong to the caller, who knows what may be dropped and what
// must be counted. A general ZeroMQ socket hides exactly those decisions: one
// slow subscriber would hold up all others, a frame length from the wire would
// be allocated unseen, and a closed socket would leave goroutines behind.
//
// Everything that a peer sends is bounded: the handshake in size and time, a
// message in frames and bytes, and memory grows only as bytes really arrive.
//
// A Conn has one reader and one writer at a time; reading, writing and Close
// may overlap. The package starts no goroutine.
package zmtp
