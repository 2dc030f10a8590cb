// Package gpubench measures the block manager's gpu tier: transfers between an
// engine's pages and host slots, each beside the copy engine's limit measured in
// turn with it in the same run, while the engine idles, multiplies or decodes.
//
// The engine is this program in a second process (ServeEngine): transfers reach
// its memory by CUDA IPC, as they do an inference engine's, and what they cost
// it is counted in its own steps. Its kernels stand for a model's: a pass over
// memory for decoding, products on the tensor cores for prefilling.
package gpubench
