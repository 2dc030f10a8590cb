// Package trtllm asks a TensorRT-LLM server (trtllm-serve) about itself: what it
// serves, its KV events, how busy it is. Health, and what it has in common with
// vLLM's HTTP surface, is vllm.Client's.
//
// It owns the names of TensorRT-LLM's routes and fields, as documented for 1.2.
// No such server could be run where this was written: its tests speak to a
// stand-in made after the documentation.
package trtllm
