package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// modelConfig is what stands beside tokenizer.json, read as transformers (and so
// vLLM) reads it.
type modelConfig struct {
	AddedTokens  map[string]hfAddedToken `json:"added_tokens_decoder"`
	Additional   []tokenText             `json:"additional_special_tokens"`
	AddBOS       *bool                   `json:"add_bos_token"`
	AddEOS       *bool                   `json:"add_eos_token"`
	ChatTemplate json.RawMessage         `json:"chat_template"`
}

// tokenText is a token given as text or as an object with its content.
type tokenText string

func (t *tokenText) UnmarshalJSON(b []byte) error {
	var object struct{ Content string }
	if json.Unmarshal(b, &object) == nil {
		*t = tokenText(object.Content)
		return nil
	}
	var s string
	err := json.Unmarshal(b, &s)
	*t = tokenText(s)
	return err
}

// readJSON reads a file beside tokenizer.json, which need not exist.
func readJSON(dir, name string, into any) error {
	b, err := readFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// configure adds what the files of a model's folder say.
func (d *definition) configure(dir string) error {
	var config modelConfig
	var named, mapped map[string]json.RawMessage
	var generation, model struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	err := firstError(
		func() error { return readJSON(dir, "special_tokens_map.json", &mapped) },
		func() error { return readJSON(dir, "tokenizer_config.json", &named) },
		func() error { return readJSON(dir, "tokenizer_config.json", &config) },
		func() error { return readJSON(dir, "generation_config.json", &generation) },
		func() error { return readJSON(dir, "config.json", &model) },
		func() error { return d.configureAdded(config) },
	)
	if err != nil {
		return err
	}
	d.configureSpecials(mapped)
	d.configureSpecials(named)
	for _, name := range sortedKeys(d.specials) {
		d.putAdded(addedToken{content: d.specials[name], special: true}, false)
	}
	for _, content := range config.Additional {
		d.putAdded(addedToken{content: string(content), special: true}, false)
	}
	d.configureEnds(config, generation.EOS, model.EOS)
	return d.configureTemplate(dir, config.ChatTemplate)
}

// configureAdded merges added_tokens_decoder: a token with other flags than
// tokenizer.json gives it is updated.
func (d *definition) configureAdded(config modelConfig) error {
	ids := make([]int, 0, len(config.AddedTokens))
	for key := range config.AddedTokens {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 || id >= maxID {
			return fmt.Errorf("tokenizer_config.json: added_tokens_decoder has the id %q; expected a number below %d", key, maxID)
		}
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		a := config.AddedTokens[strconv.Itoa(id)]
		d.putAdded(a.token(uint32(id)), true)
	}
	return nil
}

// putAdded adds a token, under the id that its content has or else the next
// free one. One that is there already changes only if update is set.
func (d *definition) putAdded(a addedToken, update bool) {
	if a.content == "" {
		return
	}
	next := uint32(len(d.vocab.spans))
	for i := range d.added {
		if d.added[i].content == a.content {
			if update {
				a.id = d.added[i].id
				d.added[i] = a
			}
			return
		}
		next = max(next, d.added[i].id+1)
	}
	if a.id = d.vocab.id([]byte(a.content)); a.id == none {
		a.id = next
	}
	d.added = append(d.added, a)
}

// configureSpecials takes every "..._token" that is a text or an object with
// one; null takes a name away.
func (d *definition) configureSpecials(fields map[string]json.RawMessage) {
	for name, raw := range fields {
		var content tokenText
		if !strings.HasSuffix(name, "_token") || json.Unmarshal(raw, &content) != nil {
			continue
		}
		if string(raw) == "null" || content == "" {
			delete(d.specials, name)
			continue
		}
		d.specials[name] = string(content)
	}
}

// idOf is the id of a token as the definition stands.
func (d *definition) idOf(content string) uint32 {
	for _, a := range d.added {
		if a.content == content {
			return a.id
		}
	}
	if content == "" {
		return none
	}
	return d.vocab.id([]byte(content))
}

// configureEnds settles BOS and EOS: what ends a generation, and what
// add_bos_token and add_eos_token put around a text in the post-processor's
// place.
func (d *definition) configureEnds(config modelConfig, ends ...json.RawMessage) {
	d.bos = d.idOf(d.specials["bos_token"])
	eos := d.idOf(d.specials["eos_token"])
	if config.AddBOS != nil || config.AddEOS != nil {
		d.prefix, d.suffix = nil, nil
		if config.AddBOS != nil && *config.AddBOS && d.bos != none {
			d.prefix = []uint32{d.bos}
		}
		if config.AddEOS != nil && *config.AddEOS && eos != none {
			d.suffix = []uint32{eos}
		}
	}
	for _, raw := range ends {
		var one uint32
		var many []uint32
		if json.Unmarshal(raw, &one) == nil {
			many = []uint32{one}
		} else if json.Unmarshal(raw, &many) != nil {
			continue
		}
		for _, id := range many {
			if !slices.Contains(d.eos, id) {
				d.eos = append(d.eos, id)
			}
		}
		if len(many) > 0 {
			break
		}
	}
	if eos != none && !slices.Contains(d.eos, eos) {
		d.eos = append(d.eos, eos)
	}
}

// configureTemplate finds the chat template: its own file first.
func (d *definition) configureTemplate(dir string, inline json.RawMessage) error {
	b, err := readFile(filepath.Join(dir, "chat_template.jinja"))
	if err == nil {
		d.template = string(b)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(inline) == 0 {
		var file struct {
			Template json.RawMessage `json:"chat_template"`
		}
		if err := readJSON(dir, "chat_template.json", &file); err != nil {
			return err
		}
		inline = file.Template
	}
	var named []struct{ Name, Template string }
	if json.Unmarshal(inline, &named) == nil {
		for _, n := range named {
			if n.Name == "default" || d.template == "" {
				d.template = n.Template
			}
		}
		return nil
	}
	if len(inline) > 0 && json.Unmarshal(inline, &d.template) != nil {
		return errors.New("chat_template: expected a text or a list of named ones")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
