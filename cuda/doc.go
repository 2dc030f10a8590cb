// Package cuda reaches the NVIDIA driver by dlopen, so that one binary runs on
// machines with and without a GPU: it links only libc, needs no CUDA headers,
// and a missing driver is an error that says so.
//
// So far it opens the driver and describes its devices. The block manager's gpu
// tier over an engine's own memory (IPC, batched copies) is built on top.
//
// A Driver is safe for concurrent use. Calls go through C function pointers on
// the calling thread; none of them blocks for longer than the driver does.
package cuda
