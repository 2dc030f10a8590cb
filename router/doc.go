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
// # Two legs
//
// Candidates have roles. Where some are Prefill workers, a decision is also about
// pairs: behind the candidates' own estimates there is one for each decode worker
// that takes a handoff, with the prefill worker that suits it best (split.go). The
// caller needs nothing else:
//
//	d := policy.Decide(request, candidates)     // of all roles
//	whole := &d.Estimates[d.Chosen]             // whole.Worker answers the client
//	first := d.PrefillLeg()                     // nil: it does all of it itself
//	ledger.Add(id+"/prefill", first.Worker, *first, now)
//	ledger.Add(id, whole.Worker, whole.DecodeLeg(), now)
//	ledger.Account(whole.Worker).Plan(whole, &decodeRates, now)   // the handoff
//
// The way into a decode worker's gpu is Rates.Handoff: SetLink with the gpu tier.
//
// Units: every duration is in milliseconds as float64, every size in bytes,
// every rate in bytes per millisecond or milliseconds per token.
//
// Invariants:
//   - An estimate adds up exactly: TTFTMS = QueueMS + RestoreMS + AdapterMS +
//     PrefillMS + TransferMS and ScoreMS = TTFTMS + HarmMS, for every candidate
//     under every policy. Adapter and transfer are 0 unless a LoRA adapter must be
//     loaded, or another worker does the prefill.
//   - Deciding into memory that has grown allocates nothing (DecideInto).
//   - A cut leaves the engine at least one token to compute.
//   - Law 4, closed books: a request's load is added once and released once.
//   - Law 8, determinism: a policy made from a decision's Policy and Seed gives
//     the same decision for the same request and candidates.
package router
