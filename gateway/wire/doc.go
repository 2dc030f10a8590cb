// Package wire carries requests to engines over HTTP/1.1.
//
// It owns the connections: which are idle, how long they are kept, and what is
// written to and read from them. The difference to http.Transport, which serves
// it for https, is what a request costs: the caller's goroutine writes and reads
// itself, where Transport hands every request to one goroutine and its answer
// back from another, and those wake-ups are most of what a proxy spends.
//
// Invariants:
//   - A connection is held by one request at a time, and is kept only after an
//     answer that was read to its end and did not ask to close it.
//   - A request is repeated only if nothing of an answer came over a connection
//     that had been idle: the engine had closed it.
//   - Whatever the context's end finds, a write or a read, is interrupted.
//
// There is one lock, Client.mu, held for no call.
package wire
