// Package loadgen sends a workload to OpenAI endpoints and measures what their
// clients see: time to first token, time per token, cached tokens, errors.
//
// It owns the workloads (workload.go), the client (client.go), the run that
// keeps to a workload's schedule (run.go) and the report (report.go).
//
// Invariants:
//   - A workload follows from its options and seed alone.
//   - A request's clock starts when it was due, not when the generator got
//     around to it: a slow endpoint cannot hide by slowing the load down. How
//     far the generator itself was late is reported.
//   - Several targets get each turn one after another, in an order that the
//     seed shuffles, so that differences are paired.
//   - Every request that was begun is in the report, as an answer or an error.
package loadgen
