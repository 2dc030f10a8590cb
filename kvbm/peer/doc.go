// Package peer moves blocks between the host tiers of workers over TCP: a
// Server lends what this worker has in cpu, a Client pulls from one other
// worker, straight into slots.
//
// # Protocol, version 1 (little-endian)
//
//	client  hello:  magic, version, block bytes, layout fingerprint, nonce, sum
//	server  answer: magic, version, verdict, nonce, proof, sum
//	client  proof, then any number of requests, one after the other
//
//	client  request: magic, count, hashes, sum
//	server  for each hash, in order, a frame: magic, verdict, length, hash,
//	        sum of the bytes, sum; and, if it has the block, the bytes
//
// A proof is an HMAC-SHA256 under the shared secret over both nonces and all
// that was said so far, so that each side knows that the other one has the
// secret before any block moves; the client pulls from nobody else. With an empty
// secret a proof proves nothing. Sums are xxh3: they find every flipped bit, and
// nobody who means to deceive. On a network where others may change packets, TLS
// goes below this protocol.
//
// # Flow
//
// A connection carries one request at a time. Where cores are
// idle, a block is summed while the one before is sent, and verified while the next
// one comes; so a connection lends at most two blocks at a time, and the receiver's
// window does the rest. A server has at most so many connections, so
// what it lends is bounded. Each read and write has a deadline. What is late, lies about its length or does not check is an error;
// the connection is not used any more, unless only the bytes of one block were
// wrong.
//
// # Locks
//
// Client.mu and Server.mu guard lists of connections, and are not held during
// I/O. Server calls Lend without a lock.
package peer
