// Package events carries an engine's KV events: the ZeroMQ stream that vLLM,
// SGLang and the embedded engine publish, in both directions.
//
//	engine -> Publisher -> PUB + ROUTER replay ~~~ SUB + DEALER -> Reader -> []kv.Event
//
// It owns everything about an engine's own block hashes: they come in with a
// Batch, a translator turns them into ours (recomputed from the token ids, so
// that no hash setting of an engine matters), and they never leave.
//
// Invariants:
//   - A Reader's output, replayed on an empty index, is what the engine holds:
//     a gap is filled from the replay socket, and when it cannot be, or the
//     engine has restarted, Cleared events come first (law 3).
//   - Nothing is lost silently: batches, events and blocks that could not be
//     used are counted by reason (law 6, ReaderStats and PublisherStats).
//   - A block whose salt is not known is never filed under the unsalted root
//     (law 7).
//   - Bytes from the wire are bounded before they are allocated.
//
// Lock order: none. The translator belongs to the Reader's goroutine; a
// Publisher has one mutex.
package events
