// Package sim is a fleet of inference engines in virtual time.
//
// It owns the event loop, the engines (continuous batching, chunked prefill, a
// bounded KV cache, lower tiers behind links), and the books of what came of
// each request. It runs the same router.Policy, router.Ledger, router.Loads,
// router.Calibration, prefixindex.Index and kvbm/policy.Table as the live gateway
// and block manager; what it makes up is time. A Timing says how long a step of
// an engine takes.
//
// Gateways know what they would know in life: the events and reports of the
// workers, late by what the options say, and the first tokens and ends of the
// requests they sent themselves.
//
// A run has one goroutine and no clock: equal options and traces give equal
// results (law 8). Several runs may share a trace.
//
// Laws that Run proves at its end, or fails:
//   - Law 4, closed books: no gateway's ledger holds a request any more.
//   - Law 1, conservation: every slot of every cache is in exactly one state, and
//     none is leased.
//   - Law 6, no silent loss: every request of the trace got all its tokens.
package sim
