package llama

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"
)

type golden struct {
	Tokens      []uint32  `json:"tokens"`
	Argmax      []int     `json:"argmax"`
	Margin      []float64 `json:"margin"`
	Top         []int     `json:"top"`
	TopLogits   []float64 `json:"top_logits"`
	Probe       []int     `json:"probe"`
	ProbeLogits []float64 `json:"probe_logits"`
}

func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// The golden values come from testdata/reference.py, an independent float64
// forward pass in numpy on the same file.
func TestRealModelAgreesWithTheReference(t *testing.T) {
	m := demoModel(t)
	raw, err := os.ReadFile("testdata/smollm2.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	r := NewRunner(m, 16, 2)
	defer r.Close()
	for i, g := range cases {
		if Kernels() == "portable" && len(g.Tokens) > 10 {
			t.Logf("case %d: left out, its %d tokens take minutes without vector kernels", i, len(g.Tokens))
			continue
		}
		pages := newPages(m, 16, len(g.Tokens))
		var last []float32
		for pos, want := range g.Argmax {
			out, err := r.Step(context.Background(), []Sequence{{Tokens: g.Tokens[pos : pos+1], Start: pos, Pages: pages, Logits: true}})
			if err != nil {
				t.Fatal(err)
			}
			last = out[0]
			if got := argmax(last); got != want && g.Margin[pos] > 0.1 {
				t.Errorf("case %d: after position %d token %d is likeliest, want %d (by %g)", i, pos, got, want, g.Margin[pos])
			}
		}
		var dot, gotNorm, wantNorm float64
		for j, id := range append(g.Top, g.Probe...) {
			want, got := append(g.TopLogits, g.ProbeLogits...)[j], float64(last[id])
			dot, gotNorm, wantNorm = dot+got*want, gotNorm+got*got, wantNorm+want*want
			if math.Abs(got-want) > 0.05 {
				t.Errorf("case %d: logit of token %d is %g, want %g", i, id, got, want)
			}
		}
		if cosine := dot / math.Sqrt(gotNorm*wantNorm); cosine < 0.99999 {
			t.Errorf("case %d: cosine %g", i, cosine)
		}
		t.Logf("case %d: %d tokens, cosine over golden logits %.9f", i, len(g.Tokens), dot/math.Sqrt(gotNorm*wantNorm))
	}
}
