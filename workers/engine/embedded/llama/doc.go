// Package llama computes Llama-family models (Llama, Mistral, Qwen2, Qwen3) in
// pure Go, on KV pages that its caller owns.
//
// # The law of bits
//
// Greedy output must not depend on how a token's KV came to be: prefilled at
// once or in chunks, decoded one by one, beside any other sequences, on any
// number of threads, reused or restored from bytes. The arithmetic is laid out
// so that this holds by construction:
//
//   - Vector lanes are outputs, never parts of one sum. Every output element of
//     a matrix product is one chain of fused multiply-adds along k = 0, 1, 2...,
//     so tiling, vector width and threads cannot change its order. A chain may be
//     put down in memory as float32 and taken up again: that is exact.
//   - Attention for a query walks positions 0..p in the same way.
//   - Sums over a vector (norms, softmax) have 16 fixed lanes and one fixed tree.
//   - K and V are rounded to bfloat16 once, when they are stored, and every reader
//     sees the stored value, also within the chunk that stored it.
//
// The kernels for AVX-512, for AVX2 with FMA and in plain Go (which emulates the
// fused multiply-add) give the same bits.
//
// # Ownership
//
// A Model is immutable after Open and may be shared by any number of Runners. A
// Runner holds the activations and the threads of one worker: its methods must
// not be called concurrently. Pages belong to the caller, who must not touch
// those of a running Step. There are no locks: workers meet at the barrier in
// team.run.
//
// Hosts must be little endian: files and pages are reinterpreted in place.
package llama
