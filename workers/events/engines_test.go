package events

import (
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// A real SGLang's frames: one prompt twice, another with its decoded answer,
// one under a salt, a flush, a prompt again.
func TestRecordedSGLang(t *testing.T) {
	s := newStory(t, 16)
	s.sglang = true
	var prompts [][]uint32
	for _, r := range recorded(t, "counterparts/sglang-frames.jsonl") {
		b := decode(t, r.payload)
		for i := range b.Events {
			e := &b.Events[i]
			s.held.apply(s.apply(nil, e))
			if e.Kind == kv.Stored && e.Parent == nil {
				prompts = append(prompts, append([]uint32(nil), e.Tokens...))
			}
		}
		if r.Label == "salt" {
			salted := kv.RootSpec{Model: "m", BlockSize: 16, Salt: "tenantA"}.Hash()
			for i, h := range kv.Chain(nil, salted, prompts[len(prompts)-1], 16) {
				if _, ok := s.held.tiers[kv.GPU][h]; !ok {
					t.Errorf("the salted prompt's block %d is not under its salt", i)
				}
			}
		}
		if r.Label == "flush" {
			s.has(kv.GPU)
		}
	}
	chain := kv.Chain(nil, kv.RootSpec{Model: "m", BlockSize: 16}.Hash(), prompts[len(prompts)-1], 16)
	s.has(kv.GPU, chain...)
	if s.stats.Lost() != 0 {
		t.Errorf("lost something: %+v", *s.stats)
	}
}

// A real vLLM with a tiny Gemma 3: three groups with a window of 64 tokens, one
// that keeps everything.
func TestRecordedHybridModel(t *testing.T) {
	s := newStory(t, 32)
	for _, r := range recorded(t, "vllm-cpu/frames.jsonl") {
		if r.Request != "x3 gemma3 hybrid prompt 300" {
			continue
		}
		b := decode(t, r.payload)
		var tokens []uint32
		for i := range b.Events {
			s.held.apply(s.apply(nil, &b.Events[i]))
			tokens = b.Events[i].Tokens
		}
		chain := kv.Chain(nil, kv.RootSpec{Model: "m", BlockSize: 32}.Hash(), tokens, 32)
		s.has(kv.GPU, chain...)
		s.has(kv.Resume, chain[len(chain)-1])
		if len(chain) != 9 || s.stats.Lost() != 0 {
			t.Errorf("%d blocks, %+v", len(chain), *s.stats)
		}
		return
	}
	t.Skip("no frame of a hybrid model was recorded")
}

// A real vLLM that was asked to report reused blocks tells of them as stored.
func TestRecordedFullReport(t *testing.T) {
	s := newStory(t, 32)
	var reported Event
	for _, r := range recorded(t, "vllm-cpu/frames.jsonl") {
		if r.Request != "1 prompt tokens 1000..1079 (80 tok, 2 full blocks), max_tokens 4" && r.Request != "5 vllm_xargs kv_cache_report_mode=full, same prompt" {
			continue
		}
		b := decode(t, r.payload)
		for i := range b.Events {
			s.held.apply(s.apply(nil, &b.Events[i]))
		}
		reported = lastStored(b)
	}
	s.has(kv.GPU, kv.Chain(nil, kv.RootSpec{Model: "m", BlockSize: 32}.Hash(), reported.Tokens, 32)...)
	s.tell(Event{Kind: kv.Removed, Hashes: reported.Hashes, Medium: MediumGPU})
	s.has(kv.GPU)
}
