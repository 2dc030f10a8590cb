// Package cuda reaches the NVIDIA driver by dlopen, so that one binary runs on
// machines with and without a GPU: it links only libc, needs no CUDA headers,
// and a missing driver is an error that says so.
//
// It owns what the block manager needs of a GPU, and nothing above it: contexts,
// pinned host memory, streams and events, copies by the copy engines, memory of
// other processes (legacy IPC handles and VMM file descriptors), counters that
// streams wait for, and kernels for benchmarks.
//
// A batch of copies is one call to C, which sets the context, waits for the
// counter, submits and records the event. No thread is kept or locked, and no
// call relies on the context that an earlier one left on its thread.
//
// A Driver and a Context are safe for concurrent use. Calls go through C
// function pointers on the calling thread; only those that say so wait.
package cuda
