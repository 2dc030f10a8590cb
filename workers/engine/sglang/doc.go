// Package sglang asks an SGLang server about itself: what it serves, where its
// KV events are, how busy it is. Health, and what SGLang has in common with
// vLLM's HTTP surface, is vllm.Client's.
//
// It owns the names of SGLang's routes and fields, of version 0.5.23.
package sglang
