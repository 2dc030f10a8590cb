package llama

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/gguf"
)

// layout versions the order of bytes in a page and the arithmetic that fills
// it: change it whenever either changes, so that no stored KV of another version
// is taken for ours.
const layout = "kvasir/llama/1"

// linear is one or more matrices with a common input, whose outputs lie behind
// each other, each padded to whole panels.
type linear struct {
	parts   []*matrix
	biases  [][]float32 // one per part, nil where there is none
	offsets []int       // of each part's outputs
	width   int         // of all outputs
}

type layer struct {
	attnNorm, ffnNorm []float32
	qNorm, kNorm      []float32 // nil where the model has none
	qkv, out          linear
	gateUp, down      linear
}

// Model is a model's weights. It is immutable and safe for concurrent use.
type Model struct {
	config      Config
	fingerprint string
	embd        *matrix
	layers      []layer
	norm        []float32
	output      linear
	freqs       []float64 // radians per position of each rotated pair
	ropeScale   float64
}

// Open loads a .gguf file or a Hugging Face folder (config.json and
// safetensors). The weights are repacked into memory; the files are not needed
// afterwards.
func Open(path string) (*Model, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("llama: %w", err)
	}
	open := openGGUF
	if st.IsDir() {
		open = openHF
	}
	m, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("llama: %s: %w", path, err)
	}
	return m, nil
}

func openGGUF(path string) (*Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := configFromGGUF(f)
	if err != nil {
		return nil, err
	}
	return loadModel(c, func(name string) (tensor, bool) {
		t := f.Tensor(name)
		if t == nil {
			return tensor{}, false
		}
		dims := slices.Clone(t.Dims)
		slices.Reverse(dims)
		return tensor{kind: t.Type.String(), dims: dims, data: t.Data}, true
	})
}

// hfNames are Hugging Face's names for GGUF's.
var hfNames = strings.NewReplacer(
	"token_embd", "model.embed_tokens", "output_norm", "model.norm", "attn_output", "self_attn.o_proj",
	"output.", "lm_head.", "blk.", "model.layers.",
	"attn_q.", "self_attn.q_proj.", "attn_k.", "self_attn.k_proj.", "attn_v.", "self_attn.v_proj.",
	"attn_q_norm", "self_attn.q_norm", "attn_k_norm", "self_attn.k_norm",
	"ffn_gate", "mlp.gate_proj", "ffn_up", "mlp.up_proj", "ffn_down", "mlp.down_proj",
	"attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm",
)

func openHF(dir string) (*Model, error) {
	c, err := configFromHF(dir)
	if err != nil {
		return nil, err
	}
	files, err := safetensorsFiles(dir)
	if err != nil {
		return nil, err
	}
	all := make(map[string]tensor)
	for _, file := range files {
		data, unmap, err := gguf.Map(file)
		if err != nil {
			return nil, err
		}
		defer unmap() //nolint:errcheck // a mapping that was only read
		if err := parseSafetensors(data, all); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return loadModel(c, func(name string) (tensor, bool) {
		t, ok := all[hfNames.Replace(name)]
		return t, ok
	})
}

// loader fetches tensors by GGUF name, in a fixed order, and hashes them on the
// way. After the first error its methods do nothing.
type loader struct {
	find func(name string) (tensor, bool)
	hash *xxh3.Hasher
	err  error
}

// fetch is nil for an absent optional tensor or after an error.
func (l *loader) fetch(name string, optional bool, dims ...int) *tensor {
	if l.err != nil {
		return nil
	}
	t, ok := l.find(name)
	switch {
	case !ok && optional:
		return nil
	case !ok:
		l.err = fmt.Errorf("tensor %q: the model file does not hold it", name)
		return nil
	case !slices.EqualFunc(t.dims, dims, func(a uint64, b int) bool { return a == uint64(b) }):
		l.err = fmt.Errorf("tensor %q: shape is %v, the configuration asks for %v", name, t.dims, dims)
		return nil
	}
	fmt.Fprintf(l.hash, "%q %s %v\n", name, t.kind, t.dims)
	_, _ = l.hash.Write(t.data)
	return &t
}

// pack is newMatrix on a tensor; there is no matrix without one.
func (l *loader) pack(name string, t *tensor, rows, cols int, rowOf func(int) int) *matrix {
	if t == nil {
		return nil
	}
	w, err := newMatrix(t.kind, rows, cols, t.data, rowOf)
	if err != nil {
		l.err = fmt.Errorf("tensor %q: %w", name, err)
	}
	return w
}

func (l *loader) matrix(name string, rows, cols int, rowOf func(int) int) *matrix {
	name += ".weight"
	return l.pack(name, l.fetch(name, false, rows, cols), rows, cols, rowOf)
}

func (l *loader) vector(name string, n int, optional bool, rowOf func(int) int) []float32 {
	t := l.fetch(name, optional, n)
	if t != nil && formats[t.kind] > fmtBF16 {
		l.err = fmt.Errorf("tensor %q: a vector of %s is not supported", name, t.kind)
		return nil
	}
	w := l.pack(name, t, n, 1, rowOf)
	if w == nil {
		return nil
	}
	v := make([]float32, n)
	for i := range v {
		w.row(v[i:], i)
	}
	return v
}

func (l *loader) linear(prefix string, cols int, parts ...part) (lin linear) {
	for _, p := range parts {
		lin.offsets = append(lin.offsets, lin.width)
		lin.parts = append(lin.parts, l.matrix(prefix+p.name, p.rows, cols, p.rowOf))
		lin.biases = append(lin.biases, l.vector(prefix+p.name+".bias", p.rows, true, p.rowOf))
		lin.width += padLanes(p.rows)
	}
	return lin
}

type part struct {
	name  string
	rows  int
	rowOf func(int) int
}

func loadModel(c Config, find func(name string) (tensor, bool)) (*Model, error) {
	l := &loader{find: find, hash: xxh3.New()}
	fmt.Fprintf(l.hash, "%s %+v\n", layout, c)
	m := &Model{config: c, embd: l.matrix("token_embd", c.Vocab, c.Hidden, nil)}
	var order func(int) int
	if half := c.HeadDim / 2; c.interleaved {
		order = func(row int) int { return row - row%c.HeadDim + row%half*2 + row%c.HeadDim/half }
	}
	kv := c.KVHeads * c.HeadDim
	for i := 0; i < c.Layers && l.err == nil; i++ {
		p := fmt.Sprintf("blk.%d.", i)
		m.layers = append(m.layers, layer{
			attnNorm: l.vector(p+"attn_norm.weight", c.Hidden, false, nil),
			ffnNorm:  l.vector(p+"ffn_norm.weight", c.Hidden, false, nil),
			qNorm:    l.vector(p+"attn_q_norm.weight", c.HeadDim, true, nil),
			kNorm:    l.vector(p+"attn_k_norm.weight", c.HeadDim, true, nil),
			qkv: l.linear(p, c.Hidden, part{"attn_q", c.Heads * c.HeadDim, order},
				part{"attn_k", kv, order}, part{"attn_v", kv, nil}),
			out:    l.linear(p, c.Heads*c.HeadDim, part{"attn_output", c.Hidden, nil}),
			gateUp: l.linear(p, c.Hidden, part{"ffn_gate", c.FFN, nil}, part{"ffn_up", c.FFN, nil}),
			down:   l.linear(p, c.FFN, part{"ffn_down", c.Hidden, nil}),
		})
	}
	m.norm = l.vector("output_norm.weight", c.Hidden, false, nil)
	if c.tied {
		m.output = linear{parts: []*matrix{m.embd}, biases: [][]float32{nil}, offsets: []int{0}, width: padLanes(c.Vocab)}
	} else {
		m.output = l.linear("", c.Hidden, part{"output", c.Vocab, nil})
	}
	m.freqs, m.ropeScale = c.Rope.frequencies(c.HeadDim, l.vector("rope_freqs.weight", c.HeadDim/2, true, nil))
	if l.err != nil {
		return nil, l.err
	}
	sum := l.hash.Sum128().Bytes()
	m.fingerprint = hex.EncodeToString(sum[:])
	return m, nil
}

// Config is the model's shape.
func (m *Model) Config() Config { return m.config }

// DType is the element type of keys and values in pages.
func (m *Model) DType() string { return "bf16" }

// Fingerprint identifies configuration, weights, page layout and arithmetic: KV
// blocks of models with equal fingerprints are interchangeable, on any host.
func (m *Model) Fingerprint() string { return m.fingerprint }

// BlockBytes is the size of a page of blockSize positions.
func (m *Model) BlockBytes(blockSize int) int { return m.config.Layers * m.layerBytes(blockSize) }

// layerBytes is a layer's part of a page: keys, then values, each in turn for
// every key/value head. Keys lie dimension by dimension, so that a vector load
// takes one dimension of neighbouring positions; values position by position.
func (m *Model) layerBytes(blockSize int) int {
	return 2 * m.config.KVHeads * m.config.HeadDim * blockSize * 2
}

// Close drops the weights. No Runner may use the model afterwards.
func (m *Model) Close() error {
	m.embd, m.layers, m.output = nil, nil, linear{}
	return nil
}
