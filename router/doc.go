// Package router decides which worker serves a request, how much of the prompt
// is reused or restored there, and says why in predicted milliseconds.
//
// It owns the cost model, the policies behind one interface (Policy), the
// books of what was routed and is not finished (Ledger), and the rates learned
// from what really happened (Calibration).
//
// It is pure: no clock, socket, goroutine or logger. Time comes in as a value,
// so the live gateway, the simulator, replay and explain run the same code.
// Nothing here is safe for concurrent use; the caller locks.
//
// Units: every duration is in milliseconds as float64, every size in bytes,
// every rate in bytes per millisecond or milliseconds per token.
//
// Invariants:
//   - An estimate adds up exactly: TTFTMS = QueueMS + RestoreMS + PrefillMS
//     and ScoreMS = TTFTMS + HarmMS, for every candidate under every policy.
//   - A cut leaves the engine at least one token to compute.
//   - Law 4, closed books: a request's load is added once and released once.
//   - Law 8, determinism: a policy made from a decision's Policy and Seed gives
//     the same decision for the same request and candidates.
package router
