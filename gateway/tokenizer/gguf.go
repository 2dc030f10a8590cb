package tokenizer

import (
	"fmt"
	"slices"
	"sort"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/kvasir-ai/kvasir/internal/gguf"
)

// Token types of GGUF.
const (
	ggufNormal      = 1
	ggufUnknown     = 2
	ggufControl     = 3
	ggufUserDefined = 4
	ggufByte        = 6
)

// ggufPre says which split patterns each tokenizer.ggml.pre stands for. The
// digits of some are a stage of their own.
var ggufPre = map[string]struct {
	digits       bool
	pattern      string
	ignoreMerges bool
	nfc          bool
	bos          bool // add_bos_token where the file does not say
}{
	"gpt-2": {pattern: patternGPT2}, "mpt": {pattern: patternGPT2}, "olmo": {pattern: patternGPT2},
	"jais": {pattern: patternGPT2}, "phi-2": {pattern: patternGPT2},
	"smollm": {digits: true, pattern: patternGPT2}, "starcoder": {digits: true, pattern: patternGPT2},
	"refact": {digits: true, pattern: patternGPT2}, "command-r": {digits: true, pattern: patternGPT2, bos: true},
	"codeshell": {digits: true, pattern: patternGPT2}, "exaone": {digits: true, pattern: patternGPT2},
	"llama3": {pattern: patternCL100K, ignoreMerges: true, bos: true}, "llama-v3": {pattern: patternCL100K, ignoreMerges: true, bos: true},
	"llama-bpe": {pattern: patternCL100K, ignoreMerges: true, bos: true},
	"glm4":      {pattern: patternCL100K}, "chatglm-bpe": {pattern: patternCL100K},
	"dbrx": {pattern: patternCL100K}, "smaug-bpe": {pattern: patternCL100K},
	"qwen2": {pattern: patternQwen2, nfc: true}, "deepseek-r1-qwen": {pattern: patternQwen2, nfc: true},
	"stablelm2": {pattern: patternQwen2}, "megrez": {pattern: patternQwen2},
	"qwen35": {pattern: patternQwen35, nfc: true},
	"gpt-4o": {pattern: patternO200K}, "llama4": {pattern: patternO200K, bos: true},
	"tekken":      {pattern: patternTekken, ignoreMerges: true, bos: true},
	"kimi-k2":     {pattern: patternKimiK2},
	"deepseek-v3": {pattern: patternDeepSeekRest, bos: true},
}

// loadGGUF reads the tokenizer section of a GGUF file.
func loadGGUF(path string) (*definition, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseGGUF(f)
}

func parseGGUF(f *gguf.File) (*definition, error) {
	pieces := f.Strings("tokenizer.ggml.tokens")
	if len(pieces) == 0 || len(pieces) > maxID {
		return nil, fmt.Errorf("tokenizer.ggml.tokens has %d entries; expected 1 to %d", len(pieces), maxID)
	}
	d := newDefinition(len(pieces))
	for id, piece := range pieces {
		// A piece listed twice keeps its first id, as in the engines that read GGUF.
		if piece != "" && d.vocab.id([]byte(piece)) == none {
			d.vocab.add([]byte(piece), uint32(id))
		}
	}
	types := f.Ints("tokenizer.ggml.token_type")
	for id, piece := range pieces {
		if id < len(types) && (types[id] == ggufControl || types[id] == ggufUserDefined || types[id] == ggufUnknown) {
			d.added = append(d.added, addedToken{content: piece, id: uint32(id), special: types[id] != ggufUserDefined})
		}
	}
	var (
		addBOS bool
		err    error
	)
	switch model, _ := f.String("tokenizer.ggml.model"); model {
	case "gpt2":
		addBOS, err = d.ggufBytes(f)
	case "llama":
		addBOS, err = true, d.ggufSPM(f, pieces, types)
	default:
		err = fmt.Errorf("%w: tokenizer.ggml.model %q; only gpt2 and llama run here", ErrUnsupported, model)
	}
	if err != nil {
		return nil, err
	}
	d.ggufSpecials(f, pieces, addBOS)
	return d, nil
}

// ggufBytes reads a byte-level vocabulary.
func (d *definition) ggufBytes(f *gguf.File) (addBOS bool, err error) {
	name, _ := f.String("tokenizer.ggml.pre")
	pre, ok := ggufPre[name]
	if !ok {
		return false, fmt.Errorf("%w: tokenizer.ggml.pre %q", ErrUnsupported, name)
	}
	d.byteLevel, d.decoder.byteLevel, d.ignoreMerges = true, true, pre.ignoreMerges
	if pre.nfc {
		d.normalizer.nfc, d.normalizer.steps = true, append(d.normalizer.steps, formStep(norm.NFC))
	}
	patterns := []string{pre.pattern}
	if pre.pattern == patternDeepSeekRest {
		patterns = []string{patternDeepSeekNumbers, patternDeepSeekAsian, patternDeepSeekRest}
	}
	if pre.digits {
		d.stages = append(d.stages, digitsStage(true))
	}
	for _, pattern := range patterns {
		if err := d.addPattern(pattern); err != nil {
			return false, err
		}
	}
	var both []byte
	for _, rule := range f.Strings("tokenizer.ggml.merges") {
		var split int
		if both, split = unspace(both[:0], []byte(rule)); !d.addMerge(both, split) {
			return false, fmt.Errorf("tokenizer.ggml.merges: %q is not in the vocabulary", rule)
		}
	}
	return pre.bos, nil
}

// ggufSPM reads a SentencePiece vocabulary, which has scores and no merges: two
// pieces merge if the vocabulary holds the two together, the best score first.
func (d *definition) ggufSPM(f *gguf.File, pieces []string, types []int64) error {
	scores := f.Floats("tokenizer.ggml.scores")
	if len(scores) != len(pieces) || len(types) != len(pieces) {
		return fmt.Errorf("tokenizer.ggml.scores and token_type have %d and %d entries; expected %d", len(scores), len(types), len(pieces))
	}
	d.markSpaces, d.byteFallback = true, slices.Contains(types, ggufByte)
	d.decoder = decoderRules{byteFallback: d.byteFallback}
	if prefix, ok := f.Bool("tokenizer.ggml.add_space_prefix"); !ok || prefix {
		d.normalizer.prefix, d.decoder.strip = prefixNormalizer, 1
	}
	if id, ok := f.Int("tokenizer.ggml.unknown_token_id"); ok && id >= 0 && int(id) < len(pieces) {
		d.unknown = uint32(id)
	}
	var normal []uint32
	for id := range pieces {
		if types[id] == ggufNormal {
			normal = append(normal, uint32(id))
		}
	}
	sort.SliceStable(normal, func(i, j int) bool { return scores[normal[i]] > scores[normal[j]] })
	rank := uint32(0)
	for i, id := range normal {
		if i > 0 && scores[id] != scores[normal[i-1]] {
			rank++
		}
		piece := []byte(pieces[id])
		for at := range pieces[id] {
			if at == 0 {
				continue
			}
			left, right := d.vocab.id(piece[:at]), d.vocab.id(piece[at:])
			if left != none && right != none && types[left] == ggufNormal && types[right] == ggufNormal {
				d.merges = append(d.merges, mergeRule{left, right, id, rank})
			}
		}
	}
	return nil
}

// ggufSpecials reads the special tokens and the chat template.
func (d *definition) ggufSpecials(f *gguf.File, pieces []string, addBOS bool) {
	id := func(key string) (uint32, bool) {
		v, ok := f.Int("tokenizer.ggml." + key + "_token_id")
		return uint32(v), ok && v >= 0 && v < int64(len(pieces))
	}
	for name, key := range map[string]string{"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"} {
		if v, ok := id(key); ok && utf8.ValidString(pieces[v]) {
			d.specials[name] = pieces[v]
		}
	}
	if v, ok := id("bos"); ok {
		d.bos = v
		if add, given := f.Bool("tokenizer.ggml.add_bos_token"); given && add || !given && addBOS {
			d.prefix = []uint32{v}
		}
	}
	for _, key := range []string{"eos", "eot", "eom"} {
		if v, ok := id(key); ok && !slices.Contains(d.eos, v) {
			d.eos = append(d.eos, v)
		}
	}
	if add, _ := f.Bool("tokenizer.ggml.add_eos_token"); add && len(d.eos) > 0 {
		d.suffix = d.eos[:1:1]
	}
	d.template, _ = f.String("tokenizer.chat_template")
}
