package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

// folder is a model's folder with these files. Its tokenizer.json, unless there is
// another one, has a token for each of a few letters, and "<s>" and "[INST]".
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	vocab := map[string]int{}
	for i, letter := range "[]<>/INSTs ahi" {
		vocab[strings.ReplaceAll(string(letter), " ", "Ġ")] = i
	}
	small, err := json.Marshal(object{
		"version", "1.0", "added_tokens", []object{special(20, "<s>"), special(21, "[INST]"), special(22, "[/INST]")}, "normalizer", nil,
		"pre_tokenizer", object{"type", "ByteLevel", "add_prefix_space", false, "trim_offsets", true, "use_regex", true},
		"post_processor", nil, "decoder", object{"type", "ByteLevel", "add_prefix_space", false, "trim_offsets", true, "use_regex", true},
		"model", object{"type", "BPE", "vocab", vocab, "merges", []string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tokenizer.json"), small)
	for name, text := range files {
		write(t, filepath.Join(dir, name), []byte(text))
	}
	return dir
}

func special(id int, text string) object {
	return object{"id", id, "content", text, "single_word", false, "lstrip", false, "rstrip", false, "normalized", false, "special", true}
}

// tekken is a tekken.json with a piece for each byte.
func tekken(version, extra string) string {
	var pieces []string
	for b := range 256 {
		pieces = append(pieces, fmt.Sprintf(`{"rank":%d,"token_bytes":%s}`, b, mustJSON([]byte{byte(b)})))
	}
	const pattern = `\\p{L}+|\\p{N}|[^\\p{L}\\p{N}]+`
	return `{"config":{"pattern":"` + pattern + `","default_vocab_size":296,"default_num_special_tokens":40,"version":"` + version + `"},` +
		`"vocab":[` + strings.Join(pieces, ",") + `]` + extra + `}`
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// What renders a model's chats is found by what lies in its folder, as vLLM does.
func TestTheRendererIsFoundAsVLLMFindsIt(t *testing.T) {
	const template = `{"chat_template": "{{ messages[0].content }}"}`
	var tokens []string
	for i, text := range strings.Fields("<unk> <s> </s> [INST] [/INST] [THINK] [/THINK] [MODEL_SETTINGS] [/MODEL_SETTINGS]") {
		tokens = append(tokens, fmt.Sprintf(`{"rank":%d,"token_str":%q}`, i, text))
	}
	settings := `,"special_tokens":[` + strings.Join(tokens, ",") + `],"model_settings_builder":{"reasoning_effort":{"values":["none","high"],"default":"none"}}`
	f := func(name string, want chattemplate.Renderer, files map[string]string) {
		t.Helper()
		d, err := Load(folder(t, files), clock)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if _, isTemplate := want.(*chattemplate.Template); isTemplate {
			if _, ok := d.Renderer.(*chattemplate.Template); !ok {
				t.Errorf("%s: %#v, %v", name, d.Renderer, d.Broken)
			}
		} else if !reflect.DeepEqual(d.Renderer, want) {
			t.Errorf("%s: %#v, %v; want %#v", name, d.Renderer, d.Broken, want)
		}
	}
	jinja := &chattemplate.Template{}
	f("nothing but a tokenizer", nil, nil)
	f("a template", jinja, map[string]string{"tokenizer_config.json": template})
	f("a template, and a model of no special kind", jinja, map[string]string{"tokenizer_config.json": template, "config.json": `{"model_type":"qwen3","architectures":["Qwen3ForCausalLM"]}`})
	f("DeepSeek V3.2", chattemplate.DeepSeekV32{}, map[string]string{"config.json": `{"architectures":["DeepseekV32ForCausalLM"]}`})
	f("DeepSeek V4, in spite of a template", chattemplate.DeepSeekV4{}, map[string]string{"tokenizer_config.json": template, "config.json": `{"architectures":["DeepseekV4ForCausalLM"]}`})
	f("only the engine, in spite of a template", nil, map[string]string{"tokenizer_config.json": template, "config.json": `{"architectures":["KimiK3ForConditionalGeneration"]}`})
	f("Mistral by SentencePiece", chattemplate.Mistral{Version: 1}, map[string]string{"tokenizer.model.v1": ""})
	f("a template beside Mistral's file", jinja, map[string]string{"tokenizer_config.json": template, "tekken.json": tekken("v3", "")})
	f("Mistral's weights beside a template", chattemplate.Mistral{Version: 3}, map[string]string{"tokenizer_config.json": template, "tekken.json": tekken("v3", ""), "consolidated.safetensors": ""})
	f("Mistral with settings", chattemplate.Mistral{Version: 15, Thinks: true, Efforts: []string{"none", "high"}, Effort: "none"},
		map[string]string{"tekken.json": tekken("v15", settings), "consolidated.safetensors": ""})

	broken := func(files map[string]string, why string) {
		t.Helper()
		d, err := Load(folder(t, files), clock)
		if err != nil || d.Renderer != nil || d.Broken == nil || !strings.Contains(d.Broken.Error(), why) {
			t.Errorf("got %+v, %v; want it broken because of %s", d, err, why)
		}
	}
	broken(map[string]string{"config.json": `{"model_type":"gpt_oss"}`}, "<|start|>")
	broken(map[string]string{"tekken.json": tekken("v99", ""), "consolidated.safetensors": ""}, "v99")
	broken(map[string]string{"tokenizer_config.json": `{"chat_template": "{% if %}"}`}, "line 1")
	for _, config := range []string{"{", `{"model_type":1}`} {
		if _, err := Load(folder(t, map[string]string{"config.json": config}), clock); err == nil {
			t.Errorf("config.json %s was read", config)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), clock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// In the text of a prompt, special tokens are found as the engine finds them: nowhere
// with Mistral's tokenizers, and by all others.
func TestPromptsHoldSpecialTokensOnlyWhereTheEngineFindsThem(t *testing.T) {
	plain, err := Load(folder(t, map[string]string{"tokenizer.model.v1": ""}), clock)
	if err != nil {
		t.Fatal(err)
	}
	usual, err := Load(folder(t, nil), clock)
	if err != nil {
		t.Fatal(err)
	}
	const text = "[INST] hi"
	if ids, err := usual.Encode(nil, text, false); err != nil || ids[0] != 21 {
		t.Errorf("%v does not begin with the token [INST]: %v", ids, err)
	}
	if ids, err := plain.Encode(nil, text, false); err != nil || slices.Contains(ids, 21) || string(plain.Tokenizer.Decode(nil, ids, false)) != text {
		t.Errorf("%v holds the token [INST], or is other text", ids)
	}
	ids, err := plain.EncodePrompt(nil, chattemplate.Prompt{{Kind: chattemplate.Control, Text: "[INST]"}, {Kind: chattemplate.Plain, Text: "[INST]"}}, true)
	if err != nil || ids[0] != 21 || slices.Contains(ids[1:], 21) || len(ids) < 4 {
		t.Errorf("%v, %v", ids, err)
	}
}
