package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Connectors by which vLLM's prefill workers hand KV over.
var connectors = []string{"nixl", "mooncake"}

// handover checks what says how a worker shares requests with others.
func (v *validator) handover(path func(string) string, w Worker) {
	vllm := w.Engine == "" || w.Engine == "vllm"
	if w.Role != kv.Aggregated && w.Engine == "embedded" {
		v.fail(path("role"), "the embedded engine hands no KV over; it is always aggregated")
	}
	if w.Connector != "" {
		v.oneOf(path("connector"), w.Connector, connectors...)
		if !vllm {
			v.fail(path("connector"), "is vLLM's; engine %s has one way of its own", w.Engine)
		}
	}
	if w.Bootstrap == "" {
		return
	}
	v.address(path("bootstrap"), w.Bootstrap)
	if w.Role != kv.Prefill || w.Engine == "trtllm" || vllm && w.Connector != "mooncake" {
		v.fail(path("bootstrap"), "only prefill workers that are SGLang, or vLLM with connector mooncake, have a bootstrap server")
	}
}

// roles checks that workers which are to share requests can: each model's prefill
// and decode workers need each other, as the same engine with the same blocks.
func (v *validator) roles(workers []Worker) {
	const none = -1
	first := func(model string, role kv.Role) int {
		return slices.IndexFunc(workers, func(w Worker) bool { return w.Model == model && w.Role == role })
	}
	kind := func(w Worker) string {
		if w.Engine == "" || w.Engine == "vllm" {
			return strings.TrimSuffix("vllm "+w.Connector, " ")
		}
		return w.Engine
	}
	for i, w := range workers {
		path := func(key string) string { return fmt.Sprintf("workers[%d].%s", i, key) }
		switch w.Role {
		case kv.Prefill:
			if first(w.Model, kv.Decode) == none {
				v.fail(path("role"), "no decode worker of the model %q takes over what this one computes", w.Model)
			}
		case kv.Decode:
			at := first(w.Model, kv.Prefill)
			if at == none {
				v.fail(path("role"), "no prefill worker of the model %q computes for this one; make it aggregated", w.Model)
				continue
			}
			p := workers[at]
			if a, b := kind(p), kind(w); a != b && !(strings.HasPrefix(a, "vllm") && strings.HasPrefix(b, "vllm") && (p.Connector == "" || w.Connector == "")) {
				v.fail(path("engine"), "is %s, and the prefill worker %q is %s: they cannot hand KV over", b, p.ID, a)
			}
			if p.BlockSize > 0 && w.BlockSize > 0 && p.BlockSize != w.BlockSize {
				v.fail(path("block_size"), "%d tokens, and %d at the prefill worker %q; they must be the same", w.BlockSize, p.BlockSize, p.ID)
			}
		}
	}
}
