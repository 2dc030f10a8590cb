package tokenizer

import (
	"encoding/json"
	"fmt"
)

// LoadJSON reads the bytes of a Hugging Face tokenizer.json.
func LoadJSON(b []byte) (*Tokenizer, error) {
	d, err := parseHF(b)
	if err != nil {
		return nil, err
	}
	return d.build()
}

// component is a part of the pipeline that tokenizer.json describes: every
// field that any of them has.
type component struct {
	Type          string      `json:"type"`
	Normalizers   []component `json:"normalizers"`
	Pretokenizers []component `json:"pretokenizers"`
	Processors    []component `json:"processors"`
	Decoders      []component `json:"decoders"`

	Pattern struct {
		String *string `json:"String"`
		Regex  *string `json:"Regex"`
	} `json:"pattern"`
	Content          string `json:"content"`
	Behavior         string `json:"behavior"`
	Invert           bool   `json:"invert"`
	Prepend          string `json:"prepend"`
	AddPrefixSpace   *bool  `json:"add_prefix_space"`
	UseRegex         *bool  `json:"use_regex"`
	IndividualDigits bool   `json:"individual_digits"`
	Replacement      string `json:"replacement"`
	PrependScheme    string `json:"prepend_scheme"`
	Split            *bool  `json:"split"`
	Start            int    `json:"start"`
	Stop             int    `json:"stop"`

	Single        []templatePiece `json:"single"`
	SpecialTokens map[string]struct {
		IDs []uint32 `json:"ids"`
	} `json:"special_tokens"`
	Cls json.RawMessage `json:"cls"`
	Sep json.RawMessage `json:"sep"`
}

type templatePiece struct {
	Sequence     *struct{} `json:"Sequence"`
	SpecialToken *struct {
		ID string `json:"id"`
	} `json:"SpecialToken"`
}

type hfAddedToken struct {
	ID         uint32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

func (a hfAddedToken) token(id uint32) addedToken {
	return addedToken{a.Content, id, a.Special, a.SingleWord, a.LStrip, a.RStrip, a.Normalized}
}

func parseHF(b []byte) (*definition, error) {
	d := newDefinition(len(b) / 64)
	r := &jsonReader{b: b}
	var added []hfAddedToken
	parts := map[string]*component{}
	var model hfModel
	var partErr error
	r.object(func(key []byte) {
		switch name := string(key); name {
		case "added_tokens":
			if err := json.Unmarshal(r.raw(), &added); err != nil && partErr == nil {
				partErr = fmt.Errorf("added_tokens: %w", err)
			}
		case "normalizer", "pre_tokenizer", "post_processor", "decoder":
			var c *component
			if err := json.Unmarshal(r.raw(), &c); err != nil && partErr == nil {
				partErr = fmt.Errorf("%s: %w", name, err)
			}
			parts[name] = c
		case "model":
			model.read(r, d)
		default:
			r.raw()
		}
	})
	if r.err == nil && r.peek() != 0 {
		r.fail("the end of the file")
	}
	if r.err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", r.err)
	}
	if partErr != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", partErr)
	}
	for _, a := range added {
		if a.ID >= maxID {
			return nil, fmt.Errorf("tokenizer.json: added token %q has id %d; expected one below %d", a.Content, a.ID, maxID)
		}
		d.added = append(d.added, a.token(a.ID))
	}
	return d, firstError(
		func() error { return model.apply(d) },
		func() error { return d.setNormalizer(parts["normalizer"]) },
		func() error { return d.setPreTokenizer(parts["pre_tokenizer"]) },
		func() error { return d.setDecoder(parts["decoder"]) },
		func() error { return d.setPostProcessor(parts["post_processor"]) },
	)
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// hfModel is the model section, less what goes straight into the definition.
type hfModel struct {
	kind      string
	settings  map[string]json.RawMessage
	rawMerges []byte // merges that came before the vocabulary
	haveVocab bool
	badMerge  string
}

func (m *hfModel) read(r *jsonReader, d *definition) {
	m.settings = map[string]json.RawMessage{}
	r.object(func(key []byte) {
		switch string(key) {
		case "type":
			m.kind = string(r.str())
		case "vocab":
			if r.peek() != '{' { // a Unigram model's list; refused by apply
				r.raw()
				return
			}
			r.object(func(piece []byte) { d.addPiece(r, piece) })
			m.haveVocab = true
		case "merges":
			if !m.haveVocab {
				m.rawMerges = r.raw()
				return
			}
			m.readMerges(r, d)
		default:
			name := string(key)
			m.settings[name] = r.raw()
		}
	})
	if m.rawMerges != nil && r.err == nil {
		m.readMerges(&jsonReader{b: m.rawMerges}, d)
	}
}

// addPiece reads the id of a vocabulary entry. The key lies in the reader's
// buffer, which reading a number leaves alone.
func (d *definition) addPiece(r *jsonReader, piece []byte) {
	if id := r.id(); r.err == nil {
		d.vocab.add(piece, id)
	}
}

// readMerges reads merges, as pairs or as strings with a space between.
func (m *hfModel) readMerges(r *jsonReader, d *definition) {
	var both []byte
	r.array(func() {
		var split int
		if r.peek() == '[' {
			part := 0
			both = both[:0]
			r.array(func() {
				both = append(both, r.str()...)
				if part++; part == 1 {
					split = len(both)
				}
			})
			if part != 2 {
				r.fail("a pair of pieces")
			}
		} else {
			both, split = unspace(both[:0], r.str())
		}
		if r.err == nil && !d.addMerge(both, split) && m.badMerge == "" {
			m.badMerge = string(both)
		}
	})
}

// unspace appends s less its first space, and says where that was.
func unspace(dst, s []byte) ([]byte, int) {
	for i, c := range s {
		if c == ' ' {
			return append(append(dst, s[:i]...), s[i+1:]...), i
		}
	}
	return append(dst, s...), 0
}

// addMerge adds the merge of both[:split] and both[split:], which ranks after
// those before it; false if one of the three pieces is not in the vocabulary.
func (d *definition) addMerge(both []byte, split int) bool {
	if split == 0 || split == len(both) {
		return false
	}
	merged := uint32(none)
	if n := len(d.merges); n > 0 && string(d.vocab.bytes(d.merges[n-1].merged)) == string(both) {
		merged = d.merges[n-1].merged // the next way to part the same piece
	} else {
		merged = d.vocab.id(both)
	}
	left, right := d.vocab.id(both[:split]), d.vocab.id(both[split:])
	if left == none || right == none || merged == none {
		return false
	}
	d.merges = append(d.merges, mergeRule{left, right, merged, uint32(len(d.merges))})
	return true
}

func (m *hfModel) setting(name string, into any) error {
	raw, ok := m.settings[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("tokenizer.json: model.%s: %w", name, err)
	}
	return nil
}

func (m *hfModel) apply(d *definition) error {
	if m.kind != "BPE" && (m.kind != "" || m.rawMerges == nil && len(d.merges) == 0) {
		return fmt.Errorf("%w: model type %q; only BPE runs here", ErrUnsupported, m.kind)
	}
	if m.badMerge != "" {
		return fmt.Errorf("tokenizer.json: merge %q is not in the vocabulary", m.badMerge)
	}
	var dropout *float64
	var prefix, suffix, unknown *string
	err := firstError(
		func() error { return m.setting("dropout", &dropout) },
		func() error { return m.setting("continuing_subword_prefix", &prefix) },
		func() error { return m.setting("end_of_word_suffix", &suffix) },
		func() error { return m.setting("unk_token", &unknown) },
		func() error { return m.setting("fuse_unk", &d.fuseUnknown) },
		func() error { return m.setting("byte_fallback", &d.byteFallback) },
		func() error { return m.setting("ignore_merges", &d.ignoreMerges) },
	)
	if err != nil {
		return err
	}
	if dropout != nil && *dropout > 0 || prefix != nil && *prefix != "" || suffix != nil && *suffix != "" {
		return fmt.Errorf("%w: dropout, continuing_subword_prefix or end_of_word_suffix", ErrUnsupported)
	}
	if unknown != nil {
		d.unknown = d.vocab.id([]byte(*unknown))
	}
	return nil
}
