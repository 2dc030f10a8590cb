// Package gateway is the HTTP front door: it speaks the OpenAI API to clients
// and to engines, and between the two decides where a request runs and which of
// its KV blocks are restored there.
//
// A request's path, one file a step: body.go reads it, fields.go finds the
// fields that matter without re-marshalling, request.go checks them, prompt.go
// renders and tokenizes, place.go turns tokens into a decision, attempt.go
// carries the original bytes to an engine, relay.go brings the answer back, and
// record.go keeps what was decided and what came of it.
//
// Beside that path, check.go compares a model's tokens with those of its
// engines, and checker.go decides by that who tokenizes.
//
// Invariants:
//   - The engine gets the client's body byte for byte, but for one field put in
//     front: the wish that a stream's tokens be named, which are taken out of the
//     answer again.
//   - A stream reaches the client in whole events, each upstream read flushed
//     once, nothing re-encoded. Until the first event is complete nothing has
//     been sent, so another worker can still be tried. A stream whose worker dies
//     later goes on at another (carry.go, continued.go), where that is exact.
//   - Law 4: a booking in the ledger is made once and released once, whatever
//     ends the request (booking.release is the only way out).
//   - Law 6: every request ends in exactly one outcome, which is counted,
//     logged and kept in its record.
//   - No prompt text reaches a log line, a metric, a span or a record.
//
// Locks, in the order in which they may be held: Gateway.placing (policy,
// ledger, calibration) is taken alone and never while waiting on the network;
// records.mu, checker.mu and Record's own lock are leaves.
package gateway
