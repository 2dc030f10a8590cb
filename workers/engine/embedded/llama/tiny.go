package llama

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The built-in model's shape: small enough to generate at start and to run at
// thousands of tokens a second, deep enough that its output depends on all of
// its context.
const (
	tinyHidden, tinyFFN    = 128, 256
	tinyLayers             = 3
	tinyHeads, tinyKVHeads = 4, 2
	tinyHeadDim            = 64
	tinyContext            = 8192
)

// tinySpecials follow the 256 byte tokens.
var tinySpecials = []string{"<|im_start|>", "<|im_end|>", "<|endoftext|>"}

const tinyTemplate = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}` +
	`{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// WriteTiny writes a small random model as a Hugging Face folder: the same bytes
// for the same seed. It talks gibberish, but sharply: the best next token wins
// by a clear margin and depends on the context, so a wrong KV block shows.
func WriteTiny(dir string, seed uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	eos := 256 + 1
	files := map[string]any{
		"config.json": map[string]any{
			"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
			"hidden_size": tinyHidden, "intermediate_size": tinyFFN, "num_hidden_layers": tinyLayers, "head_dim": tinyHeadDim,
			"num_attention_heads": tinyHeads, "num_key_value_heads": tinyKVHeads, "vocab_size": 256 + len(tinySpecials),
			"max_position_embeddings": tinyContext, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
			"tie_word_embeddings": false, "bos_token_id": 256, "eos_token_id": eos,
		},
		"tokenizer.json": tinyTokenizer(),
		"tokenizer_config.json": map[string]any{
			"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": tinyTemplate, "model_max_length": tinyContext,
			"bos_token": tinySpecials[0], "eos_token": tinySpecials[1], "pad_token": tinySpecials[2],
		},
	}
	for name, v := range files {
		raw, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors"), tinyWeights(seed), 0o644)
}

// tinyTokenizer is byte-level BPE without merges: a token per byte.
func tinyTokenizer() any {
	vocab := make(map[string]int)
	extra := rune(256)
	for b := range 256 {
		// GPT-2's alphabet: printable bytes stand for themselves, the others for
		// the code points from 256 on.
		r := rune(b)
		if printable := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae; !printable {
			r = extra
			extra++
		}
		vocab[string(r)] = b
	}
	var added []any
	for i, s := range tinySpecials {
		added = append(added, map[string]any{
			"id": 256 + i, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		})
	}
	bytelevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": bytelevel, "post_processor": nil, "decoder": bytelevel,
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": []string{},
		},
	}
}

// tinyWeights is a safetensors file of bfloat16s. The deviations keep every
// layer's contribution as large as the stream it is added to.
func tinyWeights(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0x6b766173))
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var body []byte
	add := func(name string, shape []int, draw func() float64) {
		n, from := 1, len(body)
		for _, d := range shape {
			n *= d
		}
		for range n {
			body = binary.LittleEndian.AppendUint16(body, floatToBfloat(float32(draw())))
		}
		header[hfNames.Replace(name+".weight")] = map[string]any{"dtype": "BF16", "shape": shape, "data_offsets": [2]int{from, len(body)}}
	}
	normal := func(name string, rows, cols int, gain float64) {
		std := gain / math.Sqrt(float64(cols))
		add(name, []int{rows, cols}, func() float64 { return rng.NormFloat64() * std })
	}
	ones := func(name string, n int) { add(name, []int{n}, func() float64 { return 1 }) }
	vocab, q, kv := 256+len(tinySpecials), tinyHeads*tinyHeadDim, tinyKVHeads*tinyHeadDim
	normal("token_embd", vocab, tinyHidden, math.Sqrt(tinyHidden))
	for _, l := range []string{"blk.0.", "blk.1.", "blk.2."}[:tinyLayers] {
		ones(l+"attn_norm", tinyHidden)
		normal(l+"attn_q", q, tinyHidden, 1.5)
		normal(l+"attn_k", kv, tinyHidden, 1.5)
		normal(l+"attn_v", kv, tinyHidden, 3)
		normal(l+"attn_output", tinyHidden, q, 3)
		ones(l+"ffn_norm", tinyHidden)
		normal(l+"ffn_gate", tinyFFN, tinyHidden, 1)
		normal(l+"ffn_up", tinyFFN, tinyHidden, 1)
		normal(l+"ffn_down", tinyHidden, tinyFFN, 2)
	}
	ones("output_norm", tinyHidden)
	normal("output", vocab, tinyHidden, math.Sqrt(tinyHidden))
	raw, err := json.Marshal(header)
	if err != nil {
		panic(err) // strings and numbers only
	}
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(raw)))
	return append(append(out, raw...), body...)
}
