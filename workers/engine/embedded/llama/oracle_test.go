package llama

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// spec is a random model with some of the features.
type spec struct {
	config       Config
	kind         string // of the matrices
	bias, qkNorm bool
	ropeFreqs    bool
	law          bool // the law's test runs on it, too
}

func shape(arch string, heads, kvHeads, headDim int, rope Rope) Config {
	if rope.Theta == 0 {
		rope.Theta = 10000
	}
	if rope.Factor == 0 {
		rope.Factor = 1
	}
	return Config{Arch: arch, Layers: 2, Hidden: 96, Heads: heads, KVHeads: kvHeads, HeadDim: headDim, FFN: 160, Vocab: 100,
		MaxContext: 512, RMSEps: 1e-5, Rope: rope}
}

func (s spec) tied() spec        { s.config.tied = true; return s }
func (s spec) interleaved() spec { s.config.interleaved = true; return s }

var specs = map[string]spec{
	"plain f32":           {config: shape("llama", 4, 4, 32, Rope{}), kind: "F32", law: true},
	"gqa bf16":            {config: shape("llama", 6, 2, 16, Rope{Theta: 1e5}), kind: "BF16"},
	"tied f16":            spec{config: shape("llama", 4, 1, 24, Rope{}), kind: "F16", law: true}.tied(),
	"qwen2 bias":          {config: shape("qwen2", 4, 2, 80, Rope{}), kind: "BF16", bias: true, law: true},
	"qwen3 q/k norm":      {config: shape("qwen3", 4, 2, 128, Rope{Theta: 1e6}), kind: "BF16", qkNorm: true},
	"rope linear":         {config: shape("llama", 4, 2, 32, Rope{Scaling: "linear", Factor: 4}), kind: "F32"},
	"rope llama3":         {config: shape("llama", 4, 2, 64, Rope{Scaling: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, OriginalContext: 64}), kind: "F32"},
	"rope yarn":           {config: shape("llama", 4, 2, 64, Rope{Scaling: "yarn", Factor: 4, OriginalContext: 64, BetaFast: 32, BetaSlow: 1}), kind: "F32"},
	"gguf rope_freqs":     spec{config: shape("llama", 4, 2, 32, Rope{}), kind: "F16", ropeFreqs: true}.interleaved(),
	"gguf q8_0":           spec{config: shape("llama", 4, 2, 32, Rope{}), kind: "Q8_0", law: true}.interleaved(),
	"gguf q4_0 tied":      spec{config: shape("llama", 3, 1, 64, Rope{}), kind: "Q4_0"}.interleaved().tied(),
	"gguf q4_1 with bias": spec{config: shape("llama", 3, 3, 32, Rope{}), kind: "Q4_1", bias: true, law: true}.interleaved(),
}

// randomTensor fills a tensor with values of the given deviation, and returns
// them as they are after rounding to the type.
func randomTensor(rng *rand.Rand, kind string, std float64, dims ...uint64) (tensor, []float64) {
	n := uint64(1)
	for _, d := range dims {
		n *= d
	}
	t, values := tensor{kind: kind, dims: dims}, make([]float64, 0, n)
	half := func(x float64) float64 { // a random float16 near x
		h := floatToHalf(float32(x))
		t.data = binary.LittleEndian.AppendUint16(t.data, h)
		return decodeHalf(h)
	}
	for uint64(len(values)) < n {
		switch x := rng.NormFloat64() * std; kind {
		case "F32":
			t.data = binary.LittleEndian.AppendUint32(t.data, math.Float32bits(float32(x)))
			values = append(values, float64(float32(x)))
		case "F16":
			values = append(values, half(x))
		case "BF16":
			b := uint16(math.Float32bits(float32(x)) >> 16)
			t.data = binary.LittleEndian.AppendUint16(t.data, b)
			values = append(values, float64(math.Float32frombits(uint32(b)<<16)))
		case "Q8_0":
			d := half(std / 70 * (0.5 + rng.Float64()))
			for range 32 {
				q := int8(rng.IntN(255) - 127)
				t.data, values = append(t.data, byte(q)), append(values, d*float64(q))
			}
		default:
			d, m := half(std/4*(0.5+rng.Float64())), 0.0
			if kind == "Q4_1" {
				m = half(-7.5 * d * (0.9 + 0.2*rng.Float64()))
			} else {
				m = -8 * d
			}
			var block [32]float64
			for j := range 16 {
				q := byte(rng.Uint32())
				t.data = append(t.data, q)
				block[j], block[j+16] = d*float64(q&15)+m, d*float64(q>>4)+m
			}
			values = append(values, block[:]...)
		}
	}
	return t, values
}

// decodeHalf follows the definition of a float16.
func decodeHalf(h uint16) float64 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	if exp == 0 {
		return sign * math.Ldexp(frac, -24)
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// oracle is the model's weights as plain numbers, by GGUF name.
type oracle struct {
	spec
	weights map[string][]float64
}

func (s spec) build(t *testing.T, rng *rand.Rand) (*Model, *oracle) {
	t.Helper()
	c, tensors, o := s.config, make(map[string]tensor), &oracle{spec: s, weights: make(map[string][]float64)}
	put := func(name string, kind string, std float64, dims ...int) {
		var d []uint64
		for _, n := range dims {
			d = append(d, uint64(n))
		}
		tensors[name], o.weights[name] = randomTensor(rng, kind, std, d...)
	}
	matrix := func(name string, rows, cols int, gain float64) {
		put(name+".weight", s.kind, gain/math.Sqrt(float64(cols)), rows, cols)
		if s.bias && name != "token_embd" && name != "output" {
			put(name+".bias", "F32", 0.3, rows)
		}
	}
	matrix("token_embd", c.Vocab, c.Hidden, 10)
	if !c.tied {
		matrix("output", c.Vocab, c.Hidden, 3)
	}
	put("output_norm.weight", "F32", 1, c.Hidden)
	if s.ropeFreqs {
		tensors["rope_freqs.weight"], o.weights["rope_freqs.weight"] = randomTensor(rng, "F32", 0, uint64(c.HeadDim/2))
		for i := range c.HeadDim / 2 {
			v := float32(1 + 7*rng.Float64())
			binary.LittleEndian.PutUint32(tensors["rope_freqs.weight"].data[4*i:], math.Float32bits(v))
			o.weights["rope_freqs.weight"][i] = float64(v)
		}
	}
	for l := range c.Layers {
		p := fmt.Sprintf("blk.%d.", l)
		put(p+"attn_norm.weight", "F32", 1, c.Hidden)
		put(p+"ffn_norm.weight", "F32", 1, c.Hidden)
		if s.qkNorm {
			put(p+"attn_q_norm.weight", "F32", 1, c.HeadDim)
			put(p+"attn_k_norm.weight", "F32", 1, c.HeadDim)
		}
		matrix(p+"attn_q", c.Heads*c.HeadDim, c.Hidden, 2)
		matrix(p+"attn_k", c.KVHeads*c.HeadDim, c.Hidden, 2)
		matrix(p+"attn_v", c.KVHeads*c.HeadDim, c.Hidden, 3)
		matrix(p+"attn_output", c.Hidden, c.Heads*c.HeadDim, 1)
		matrix(p+"ffn_gate", c.FFN, c.Hidden, 1)
		matrix(p+"ffn_up", c.FFN, c.Hidden, 1)
		matrix(p+"ffn_down", c.Hidden, c.FFN, 1)
	}
	m, err := loadModel(c, func(name string) (tensor, bool) {
		t, ok := tensors[name]
		return t, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, o
}

// product is weights times x plus bias.
func (o *oracle) product(name string, x []float64) []float64 {
	w, bias := o.weights[name+".weight"], o.weights[name+".bias"]
	out := make([]float64, len(w)/len(x))
	for r := range out {
		for k, v := range x {
			out[r] += w[r*len(x)+k] * v
		}
		if bias != nil {
			out[r] += bias[r]
		}
	}
	return out
}

func (o *oracle) norm(name string, x []float64) []float64 {
	w, ss := o.weights[name], 0.0
	for _, v := range x {
		ss += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(ss/float64(len(x))+o.config.RMSEps) * w[i]
	}
	return out
}

// rotate turns pairs by their angle: neighbours in GGUF's order, halves else.
func (o *oracle) rotate(x []float64, pos int) {
	d, r := len(x), o.config.Rope
	for i := range d / 2 {
		f, scale := math.Pow(r.Theta, -2*float64(i)/float64(d)), 1.0
		switch wavelength := 2 * math.Pi / f; r.Scaling {
		case "linear":
			f /= r.Factor
		case "llama3":
			low, high, orig := r.LowFreq, r.HighFreq, float64(r.OriginalContext)
			if wavelength > orig/low {
				f /= r.Factor
			} else if wavelength > orig/high {
				smooth := (orig/wavelength - low) / (high - low)
				f = (1-smooth)*f/r.Factor + smooth*f
			}
		case "yarn":
			at := func(turns float64) float64 {
				return float64(d) * math.Log(float64(r.OriginalContext)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
			}
			low, high := math.Max(math.Floor(at(32)), 0), math.Min(math.Ceil(at(1)), float64(d-1))
			ramp := math.Min(math.Max((float64(i)-low)/(high-low), 0), 1)
			f, scale = f/r.Factor*ramp+f*(1-ramp), 0.1*math.Log(r.Factor)+1
		}
		if o.ropeFreqs {
			f /= o.weights["rope_freqs.weight"][i]
		}
		a, b := i, i+d/2
		if o.config.interleaved {
			a, b = 2*i, 2*i+1
		}
		sin, cos := math.Sincos(float64(pos) * f)
		x[a], x[b] = (x[a]*cos-x[b]*sin)*scale, (x[b]*cos+x[a]*sin)*scale
	}
}

// rounded is x as a page keeps it.
func rounded(x []float64) []float64 {
	for i, v := range x {
		x[i] = float64(bfloatToFloat(floatToBfloat(float32(v))))
	}
	return x
}

// forward is the logits after the last token, with everything computed anew.
func (o *oracle) forward(tokens []uint32) []float64 {
	c := o.config
	xs := make([][]float64, len(tokens))
	for i, t := range tokens {
		xs[i] = append([]float64(nil), o.weights["token_embd.weight"][int(t)*c.Hidden:][:c.Hidden]...)
	}
	add := func(x, y []float64) {
		for i := range x {
			x[i] += y[i]
		}
	}
	for l := range c.Layers {
		p := fmt.Sprintf("blk.%d.", l)
		var keys, values [][]float64
		for pos, x := range xs {
			h := o.norm(p+"attn_norm.weight", x)
			q, k := o.product(p+"attn_q", h), o.product(p+"attn_k", h)
			for _, part := range []struct {
				v    []float64
				norm string
			}{{q, "attn_q_norm.weight"}, {k, "attn_k_norm.weight"}} {
				for at := 0; at < len(part.v); at += c.HeadDim {
					head := part.v[at : at+c.HeadDim]
					if o.qkNorm {
						copy(head, o.norm(p+part.norm, head))
					}
					o.rotate(head, pos)
				}
			}
			keys, values = append(keys, rounded(k)), append(values, rounded(o.product(p+"attn_v", h)))
			add(x, o.product(p+"attn_output", o.attend(q, keys, values)))
			h = o.norm(p+"ffn_norm.weight", x)
			gate, up := o.product(p+"ffn_gate", h), o.product(p+"ffn_up", h)
			for i, g := range gate {
				up[i] *= g / (1 + math.Exp(-g))
			}
			add(x, o.product(p+"ffn_down", up))
		}
	}
	out := "output"
	if c.tied {
		out = "token_embd"
	}
	return o.product(out, o.norm("output_norm.weight", xs[len(xs)-1]))
}

func (o *oracle) attend(q []float64, keys, values [][]float64) []float64 {
	c := o.config
	out := make([]float64, len(q))
	for h := range c.Heads {
		at, kv := h*c.HeadDim, h/(c.Heads/c.KVHeads)*c.HeadDim
		scores, sum := make([]float64, len(keys)), 0.0
		for p, k := range keys {
			for i := range c.HeadDim {
				scores[p] += q[at+i] * k[kv+i]
			}
			scores[p] = math.Exp(scores[p] / math.Sqrt(float64(c.HeadDim)))
			sum += scores[p]
		}
		for p, v := range values {
			for i := range c.HeadDim {
				out[at+i] += scores[p] / sum * v[kv+i]
			}
		}
	}
	return out
}

func TestEveryFeatureAgreesWithTheOracle(t *testing.T) {
	rng := trial.Rand(t)
	for name, s := range maps.All(specs) {
		t.Run(name, func(t *testing.T) {
			m, o := s.build(t, rng)
			tokens := make([]uint32, 70)
			for i := range tokens {
				tokens[i] = rng.Uint32N(uint32(s.config.Vocab))
			}
			r := NewRunner(m, 16, 2)
			defer r.Close()
			out, err := r.Step(context.Background(), []Sequence{{Tokens: tokens, Pages: newPages(m, 16, len(tokens)), Logits: true}})
			if err != nil {
				t.Fatal(err)
			}
			var dot, got, want float64
			for i, w := range o.forward(tokens) {
				g := float64(out[0][i])
				dot, got, want = dot+g*w, got+g*g, want+w*w
			}
			// Where a key or value lies on the edge of two bfloat16s, float32 and
			// float64 arithmetic round it apart: hence not more digits.
			if cosine := dot / math.Sqrt(got*want); !(cosine > 0.99999) || math.Abs(got/want-1) > 0.01 {
				t.Errorf("cosine with the oracle %.7f, norms %.5f and %.5f", cosine, math.Sqrt(got), math.Sqrt(want))
			} else {
				t.Logf("cosine with the oracle %.9f", cosine)
			}
		})
	}
}
