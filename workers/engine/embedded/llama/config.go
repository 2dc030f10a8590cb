package llama

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/gguf"
)

// Config is a model's shape.
type Config struct {
	Arch                           string
	Layers, Hidden, Heads, KVHeads int
	HeadDim, FFN, Vocab            int
	MaxContext                     int
	RMSEps                         float64
	Rope                           Rope
	BOS                            uint32
	EOS                            []uint32

	// tied: the vocabulary projection is the embedding matrix.
	tied bool
	// interleaved: q and k rows are ordered for rotating neighbours (2i, 2i+1),
	// as llama.cpp's converter leaves them; they are reordered when loaded.
	interleaved bool
}

// derive sets what model files leave out where it follows from the rest.
func (c *Config) derive() {
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
}

func (c *Config) validate() error {
	limits := []struct {
		name   string
		n, max int
	}{
		{"layers", c.Layers, 1 << 10}, {"hidden size", c.Hidden, 1 << 16}, {"attention heads", c.Heads, 1 << 10},
		{"key/value heads", c.KVHeads, 1 << 10}, {"head dimension", c.HeadDim, 1 << 10},
		{"feed-forward size", c.FFN, 1 << 20}, {"vocabulary", c.Vocab, 1 << 22}, {"context length", c.MaxContext, 1 << 24},
	}
	for _, l := range limits {
		if l.n <= 0 || l.n > l.max {
			return fmt.Errorf("%s is %d (want 1 to %d)", l.name, l.n, l.max)
		}
	}
	if c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("%d attention heads do not divide over %d key/value heads", c.Heads, c.KVHeads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("head dimension %d is odd", c.HeadDim)
	}
	if c.RMSEps <= 0 || c.RMSEps > 1 {
		return fmt.Errorf("RMS norm epsilon is %g", c.RMSEps)
	}
	return c.Rope.validate()
}

// ggufArchs are GGUF's names of what we compute. Mistral calls itself llama.
var ggufArchs = []string{"llama", "qwen2", "qwen3"}

func configFromGGUF(f *gguf.File) (Config, error) {
	arch, _ := f.String("general.architecture")
	if !slices.Contains(ggufArchs, arch) {
		return Config{}, fmt.Errorf("architecture %q is not supported (supported: %q)", arch, ggufArchs)
	}
	num := func(key string) int { n, _ := f.Int(arch + "." + key); return int(n) }
	real := func(key string, absent float64) float64 {
		if x, ok := f.Float(arch + "." + key); ok {
			return x
		}
		return absent
	}
	if n := num("expert_count"); n > 0 {
		return Config{}, fmt.Errorf("mixture of %d experts is not supported", n)
	}
	c := Config{
		Arch: arch, Layers: num("block_count"), Hidden: num("embedding_length"),
		Heads: num("attention.head_count"), KVHeads: num("attention.head_count_kv"),
		HeadDim: num("attention.key_length"), FFN: num("feed_forward_length"),
		MaxContext: num("context_length"), RMSEps: real("attention.layer_norm_rms_epsilon", 1e-5),
		Rope: Rope{
			Theta: real("rope.freq_base", 10000), Factor: real("rope.scaling.factor", 1),
			OriginalContext: num("rope.scaling.original_context_length"),
			Attention:       real("rope.scaling.attn_factor", 0),
			BetaFast:        real("rope.scaling.yarn_beta_fast", 32), BetaSlow: real("rope.scaling.yarn_beta_slow", 1),
		},
		interleaved: arch == "llama",
		tied:        f.Tensor("output.weight") == nil,
	}
	c.Rope.Scaling, _ = f.String(arch + ".rope.scaling.type")
	if embd := f.Tensor("token_embd.weight"); embd != nil && len(embd.Dims) == 2 {
		c.Vocab = int(min(embd.Dims[1], 1<<32))
	}
	c.derive()
	if v := num("attention.value_length"); v != 0 && v != c.HeadDim {
		return c, fmt.Errorf("value heads of %d beside key heads of %d are not supported", v, c.HeadDim)
	}
	if d := num("rope.dimension_count"); d != 0 && d != c.HeadDim {
		return c, fmt.Errorf("rotating %d of %d head dimensions is not supported", d, c.HeadDim)
	}
	if id, ok := f.Int("tokenizer.ggml.bos_token_id"); ok {
		c.BOS = uint32(id)
	}
	for _, key := range []string{"eos", "eot"} {
		if id, ok := f.Int("tokenizer.ggml." + key + "_token_id"); ok && !slices.Contains(c.EOS, uint32(id)) {
			c.EOS = append(c.EOS, uint32(id))
		}
	}
	return c, c.validate()
}

// tokenIDs is one id, a list of ids or null in JSON.
type tokenIDs []uint32

func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	var one uint32
	if json.Unmarshal(b, &one) == nil {
		if string(b) != "null" {
			*t = tokenIDs{one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]uint32)(t))
}

type hfConfig struct {
	ModelType     string          `json:"model_type"`
	Hidden        int             `json:"hidden_size"`
	FFN           int             `json:"intermediate_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       int             `json:"num_key_value_heads"`
	HeadDim       int             `json:"head_dim"`
	Vocab         int             `json:"vocab_size"`
	MaxContext    int             `json:"max_position_embeddings"`
	RMSEps        float64         `json:"rms_norm_eps"`
	Theta         float64         `json:"rope_theta"`
	RopeScaling   json.RawMessage `json:"rope_scaling"`
	RopeParams    json.RawMessage `json:"rope_parameters"` // since transformers 5
	PartialRotary *float64        `json:"partial_rotary_factor"`
	Act           string          `json:"hidden_act"`
	Tied          bool            `json:"tie_word_embeddings"`
	Window        *int            `json:"sliding_window"`
	UseWindow     *bool           `json:"use_sliding_window"`
	BOS           tokenIDs        `json:"bos_token_id"`
	EOS           tokenIDs        `json:"eos_token_id"`
}

var hfArchs = []string{"llama", "mistral", "qwen2", "qwen3"}

func configFromHF(dir string) (Config, error) {
	// What the classes of these models assume where config.json is silent.
	h := hfConfig{RMSEps: 1e-6, Theta: 10000, Act: "silu", MaxContext: 2048}
	if err := readJSON(filepath.Join(dir, "config.json"), &h); err != nil {
		return Config{}, err
	}
	if !slices.Contains(hfArchs, h.ModelType) {
		return Config{}, fmt.Errorf("model_type %q is not supported (supported: %q)", h.ModelType, hfArchs)
	}
	if h.Act != "silu" {
		return Config{}, fmt.Errorf("hidden_act %q is not supported (supported: silu)", h.Act)
	}
	if h.PartialRotary != nil && *h.PartialRotary != 1 {
		return Config{}, fmt.Errorf("partial_rotary_factor %g is not supported (supported: 1)", *h.PartialRotary)
	}
	c := Config{
		Arch: h.ModelType, Layers: h.Layers, Hidden: h.Hidden, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim,
		FFN: h.FFN, Vocab: h.Vocab, MaxContext: h.MaxContext, RMSEps: h.RMSEps, tied: h.Tied, EOS: h.EOS,
		Rope: Rope{Theta: h.Theta, Factor: 1, OriginalContext: h.MaxContext, BetaFast: 32, BetaSlow: 1},
	}
	for _, raw := range []json.RawMessage{h.RopeScaling, h.RopeParams} {
		if err := c.Rope.merge(raw); err != nil {
			return c, fmt.Errorf("config.json: %w", err)
		}
	}
	c.derive()
	if len(h.BOS) > 0 {
		c.BOS = h.BOS[0]
	}
	// Within its window a windowed model is an ordinary one: serve that much.
	if h.Window != nil && *h.Window > 0 && (h.UseWindow == nil || *h.UseWindow) {
		c.MaxContext = min(c.MaxContext, *h.Window)
	}
	// generation_config.json names every token that ends a turn.
	var gen struct {
		EOS tokenIDs `json:"eos_token_id"`
	}
	err := readJSON(filepath.Join(dir, "generation_config.json"), &gen)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	if len(gen.EOS) > 0 {
		c.EOS = gen.EOS
	}
	return c, c.validate()
}

// merge overrides what raw, if there is any, holds.
func (r *Rope) merge(raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var old struct { // an older name of rope_type
		Type string `json:"type"`
	}
	if err := errors.Join(json.Unmarshal(raw, &old), json.Unmarshal(raw, r)); err != nil {
		return err
	}
	if r.Scaling == "" {
		r.Scaling = old.Type
	}
	return nil
}
