// Package vllm asks an engine that speaks vLLM's HTTP surface (vLLM itself and
// the embedded engine) about itself: health, what it serves, where its KV
// events are, how busy it is.
//
// It owns the names of vLLM's routes, fields and metrics. Nothing here is on
// the way of a request.
package vllm
