package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

// What renders a model's chats is decided as vLLM 0.32 does, by the first of:
//
//	config.json: model_type is gpt_oss                    Harmony
//	config.json: architectures name DeepSeek V3.2 or V4   that model's own encoder
//	config.json: architectures name a model of engineOnly only the engine
//	tekken.json or tokenizer.model.vN, and Mistral's      Mistral's rules of the file's
//	  consolidated*.safetensors or no chat template       version
//	a chat template                                       that template
//	nothing                                               only the engine
//
// (vLLM itself wants Mistral's weights there, which a folder with only a tokenizer
// lacks.) An engine told otherwise, as by --tokenizer-mode, is found out by the
// gateway's comparison of tokens when the engine appears.

// engineOnly are architectures whose prompts are made by code of their own that is
// not followed here; vLLM uses no template for them.
var engineOnly = []string{
	"DeepseekV41ForCausalLM", "InklingForCausalLM", "InklingForConditionalGeneration",
	"KimiK3ForConditionalGeneration", "MoonshotKimiaForCausalLM",
}

// modelFiles is what a model's folder says of how its chats are rendered.
type modelFiles struct {
	tokenizer string // the path to load
	config    struct {
		ModelType     string   `json:"model_type"`
		Architectures []string `json:"architectures"`
	}
	mistral      string // tekken.json or tokenizer.model.vN; "": none
	consolidated bool   // weights in Mistral's own format are there
}

// findFiles looks around in the folder that path is or that its tokenizer.json
// stands in.
func findFiles(path string) (*modelFiles, error) {
	f := &modelFiles{tokenizer: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	dir := path
	if !info.IsDir() {
		if filepath.Base(path) != "tokenizer.json" {
			return f, nil
		}
		dir = filepath.Dir(path)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		if err = json.Unmarshal(b, &f.config); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	spm, _ := filepath.Glob(filepath.Join(dir, "tokenizer.model.v*"))
	if tekken := filepath.Join(dir, "tekken.json"); exists(tekken) {
		f.mistral = tekken
	} else if len(spm) > 0 {
		f.mistral = spm[len(spm)-1]
	}
	weights, _ := filepath.Glob(filepath.Join(dir, "consolidated*.safetensors"))
	f.consolidated = len(weights) > 0
	if f.consolidated && filepath.Base(f.mistral) == "tekken.json" {
		f.tokenizer = f.mistral // the engine does not look at a tokenizer.json beside it
	}
	return f, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (f *modelFiles) is(architectures ...string) bool {
	return slices.ContainsFunc(f.config.Architectures, func(a string) bool { return slices.Contains(architectures, a) })
}

// renderer is the model's; nil if there is none but the engine.
func (f *modelFiles) renderer(t *tokenizer.Tokenizer) (chattemplate.Renderer, error) {
	switch {
	case f.config.ModelType == "gpt_oss":
		return chattemplate.Harmony{}, nil
	case f.is("DeepseekV32ForCausalLM"):
		return chattemplate.DeepSeekV32{}, nil
	case f.is("DeepseekV4ForCausalLM", "DeepseekV4ForConditionalGeneration"):
		return chattemplate.DeepSeekV4{}, nil
	case f.is(engineOnly...):
		return nil, nil
	case f.mistral != "" && (f.consolidated || t.ChatTemplate() == ""):
		return readMistral(f.mistral)
	case t.ChatTemplate() != "":
		parsed, err := chattemplate.Parse(t.ChatTemplate())
		if err != nil {
			return nil, err
		}
		return parsed, nil
	}
	return nil, nil
}

// readMistral learns a Mistral model's rules from its tokenizer's file.
func readMistral(path string) (chattemplate.Renderer, error) {
	if _, version, ok := strings.Cut(filepath.Base(path), ".model.v"); ok {
		version, _, _ = strings.Cut(version, "m") // images
		m, err := mistralOf("v" + version)
		return m, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Config struct {
			Version string `json:"version"`
		} `json:"config"`
		Specials []struct {
			Text string `json:"token_str"`
		} `json:"special_tokens"`
		Settings struct {
			Effort struct {
				Values  []string `json:"values"`
				Default string   `json:"default"`
			} `json:"reasoning_effort"`
		} `json:"model_settings_builder"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := mistralOf(file.Config.Version)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range file.Specials {
		m.Thinks = m.Thinks || s.Text == "[THINK]"
	}
	m.Efforts, m.Effort = file.Settings.Effort.Values, file.Settings.Effort.Default
	return m, nil
}

func mistralOf(version string) (chattemplate.Mistral, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "v"))
	if err != nil || !slices.Contains(chattemplate.MistralVersions, n) {
		return chattemplate.Mistral{}, fmt.Errorf("version %q of Mistral's tokenizers is unknown; known are %v", version, chattemplate.MistralVersions)
	}
	return chattemplate.Mistral{Version: n}, nil
}
