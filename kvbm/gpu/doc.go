// Package gpu moves blocks between an engine's GPU memory and host slots, from
// outside the engine's process. It owns the agent's side of a GPU: the mapping
// of the engine's memory, the pinning of host memory, and one lane per
// direction.
//
// Four rules, each measured, keep the engine undisturbed:
//
//   - Only the copy engines work: no kernels, because the contexts of two
//     processes share the GPU in turns of about 2 ms.
//   - No plain copy to the device of 24 KB or less, which would go through the
//     compute engine: small fragments are copied as rows of a rectangle.
//   - While an engine decodes, one call is in flight per direction. A queue that
//     is never empty starves the engine's own small copies.
//   - The size of that call is the throttle. It follows from a budget: how much
//     slower the engine may become.
//
// # Who does the work
//
// No goroutine is kept for a lane. Whoever asks for a transfer drives the lane
// until his own is done, for others too, and then hands it to one who waits. So
// a demand load on an idle lane needs no wake-up at all, and beside bulk work it
// waits for what is in flight, never for what is queued.
//
// # Life and death
//
// Memory that is mapped here stays allocated when the engine dies, and the next
// engine would find it taken. So the engine's process is watched by a pidfd, and
// its memory is let go at once. A fault in the agent's own context costs the GPU
// for as long as the process lives; transfers are misses then, and the log asks
// for a restart.
//
// # Locks
//
// Device.mu before lane.mu. Neither is held during a call that waits for the
// GPU, but for Device.mu while engines come and go.
package gpu
