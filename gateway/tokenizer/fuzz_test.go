package tokenizer

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/gguf"
)

func FuzzTokenizerJSON(f *testing.F) {
	f.Add([]byte(`{"added_tokens":[{"id":3,"content":"<s>","special":true,"rstrip":true}],"normalizer":{"type":"NFC"},
		"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true},"decoder":{"type":"ByteLevel"},
		"model":{"type":"BPE","vocab":{"h":0,"e":1,"he":2},"merges":["h e"]}}`))
	f.Add([]byte(`{"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
		"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
		"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}],"special_tokens":{"a":{"ids":[1]}}},
		"model":{"vocab":{"▁":0,"h":1,"▁h":2},"merges":[["▁","h"]],"unk_token":"h","fuse_unk":true}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseHF(b)
		exercise(d, err)
	})
}

func FuzzRankFile(f *testing.F) {
	f.Add([]byte("YQ== 0\nYg== 1\nYWI= 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseRanks(b, patternO200K)
		exercise(d, err)
	})
}

func FuzzTekken(f *testing.F) {
	f.Add([]byte(`{"config":{"pattern":"a|b","default_vocab_size":5,"default_num_special_tokens":2},
		"vocab":[{"rank":0,"token_bytes":"YQ=="},{"rank":1,"token_bytes":"Yg=="},{"rank":2,"token_bytes":"YWI="}],
		"special_tokens":[{"rank":1,"token_str":"<s>"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseTekken(b)
		exercise(d, err)
	})
}

// What a GGUF file says about its vocabulary; internal/gguf fuzzes the file.
func FuzzGGUFVocabulary(f *testing.F) {
	f.Add("gpt2", "smollm", "a b ab Ġ", []byte{1, 1, 1, 3}, "a b", int64(2), true)
	f.Add("llama", "", "<unk> ▁ a ▁a <0x0A>", []byte{2, 1, 1, 1, 6}, "", int64(0), false)
	f.Fuzz(func(t *testing.T, model, pre, pieces string, types []byte, merges string, id int64, add bool) {
		tokens := strings.Split(pieces, " ")
		scores := make([]float32, len(tokens))
		for i := range scores {
			scores[i] = -float32(len(tokens[i]) % 7)
		}
		d, err := parseGGUF(&gguf.File{Metadata: map[string]any{
			"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types,
			"tokenizer.ggml.merges": strings.Split(merges, "\n"), "tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": id,
			"tokenizer.ggml.eos_token_id": id, "tokenizer.ggml.unknown_token_id": id, "tokenizer.ggml.add_bos_token": add, "tokenizer.ggml.add_eos_token": add,
		}})
		exercise(d, err)
	})
}

// exercise runs a tokenizer of a file that was understood.
func exercise(d *definition, err error) {
	if err != nil {
		return
	}
	tok, err := d.build()
	if err != nil {
		return
	}
	ids := tok.Encode(nil, "hello <s> 世界\n\xff 123 ab", true)
	tok.Decode(nil, ids, true)
}

// What the walker accepts, encoding/json accepts, and strings read the same.
func FuzzJSONReader(f *testing.F) {
	f.Add([]byte(`{"a":["\u00e9\ud83d\ude00\n",1.5e3,true,null]}`))
	f.Add([]byte(`"\ud800x"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &jsonReader{b: b}
		got := string(r.str())
		var want string
		if r.err == nil && r.peek() == 0 && json.Valid(b) && json.Unmarshal(b, &want) == nil && got != want && strings.ToValidUTF8(got, "\uFFFD") == got {
			t.Fatalf("%q: got %q, want %q", b, got, want)
		}
		(&jsonReader{b: b}).raw()
	})
}
