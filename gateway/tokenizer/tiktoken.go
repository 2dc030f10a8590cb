package tokenizer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// A rank file has a line for each piece, its bytes in base64 and its rank, which
// is its id. It says neither the split pattern nor the special tokens: those are
// known by the file's name or by what stands beside it.

// rankFiles are the rank files known by name.
var rankFiles = map[string]struct {
	pattern  string
	specials map[string]uint32
}{
	"cl100k_base.tiktoken": {patternCL100K, map[string]uint32{"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}},
	"o200k_base.tiktoken":  {patternO200K, map[string]uint32{"<|endoftext|>": 199999, "<|endofprompt|>": 200018}},
}

func loadRankFile(path string) (*definition, error) {
	known, ok := rankFiles[filepath.Base(path)]
	if !ok {
		return nil, fmt.Errorf("%w: rank file of unknown split pattern; known are cl100k_base.tiktoken and o200k_base.tiktoken", ErrUnsupported)
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	d, err := parseRanks(b, known.pattern)
	if err != nil {
		return nil, err
	}
	for _, content := range sortedKeys(known.specials) {
		d.added = append(d.added, addedToken{content: content, id: known.specials[content], special: true})
	}
	d.specials["eos_token"] = "<|endoftext|>"
	d.eos = []uint32{known.specials["<|endoftext|>"]}
	return d, nil
}

// loadKimi reads the folder of a Kimi K2 model: tiktoken.model, and the special
// tokens in tokenizer_config.json, which stand in the 256 ids after the ranks.
func loadKimi(dir string) (*definition, error) {
	if !exists(dir, "tokenization_kimi.py") {
		return nil, fmt.Errorf("%w: tiktoken.model without tokenizer.json, of a model other than Kimi K2", ErrUnsupported)
	}
	b, err := readFile(filepath.Join(dir, "tiktoken.model"))
	if err != nil {
		return nil, err
	}
	d, err := parseRanks(b, patternKimiK2)
	if err != nil {
		return nil, err
	}
	var config modelConfig
	if err := readJSON(dir, "tokenizer_config.json", &config); err != nil {
		return nil, err
	}
	base := len(d.vocab.spans)
	for id := base; id < base+256; id++ {
		content := fmt.Sprintf("<|reserved_token_%d|>", id)
		if a, ok := config.AddedTokens[strconv.Itoa(id)]; ok {
			content = a.Content
		}
		d.added = append(d.added, addedToken{content: content, id: uint32(id), special: true})
	}
	return d, nil
}

// newByteLevel is a byte-level definition with one split pattern.
func newByteLevel(capacity int, pattern string) (*definition, error) {
	d := newDefinition(capacity)
	// A word that is a piece is taken as it is, without merging.
	d.byteLevel, d.decoder.byteLevel, d.ignoreMerges = true, true, true
	return d, d.addPattern(pattern)
}

// parseRanks reads a rank file.
func parseRanks(b []byte, pattern string) (*definition, error) {
	d, err := newByteLevel(bytes.Count(b, []byte("\n")), pattern)
	if err != nil {
		return nil, err
	}
	var piece, spelled []byte
	for line := 1; len(b) > 0; line++ {
		var text []byte
		text, b, _ = bytes.Cut(b, []byte("\n"))
		text = bytes.TrimRight(text, "\r ")
		if len(text) == 0 {
			continue
		}
		code, number, _ := bytes.Cut(text, []byte(" "))
		rank, err := strconv.ParseUint(string(number), 10, 32)
		if err == nil {
			piece, err = base64.StdEncoding.AppendDecode(piece[:0], code)
		}
		if err != nil || rank >= maxID {
			return nil, fmt.Errorf("line %d: expected a piece in base64, a space and a rank below %d", line, maxID)
		}
		spelled = appendSpelled(spelled[:0], piece)
		d.vocab.add(spelled, uint32(rank))
	}
	d.rankMerges()
	return d, nil
}

func appendSpelled(dst, piece []byte) []byte {
	for _, b := range piece {
		dst = append(dst, string(byteChar[b])...)
	}
	return dst
}

// rankMerges makes the merges that ranks imply: any two pieces that are one
// together merge, by the rank of that one.
func (d *definition) rankMerges() {
	for id := range d.vocab.spans {
		piece := d.vocab.bytes(uint32(id))
		for at := range string(piece) {
			if at == 0 {
				continue
			}
			left, right := d.vocab.id(piece[:at]), d.vocab.id(piece[at:])
			if left != none && right != none {
				d.merges = append(d.merges, mergeRule{left, right, uint32(id), uint32(id)})
			}
		}
	}
}

// loadDefinition reads the vocabulary of a model's folder from the first of the
// files that it may be in.
func loadDefinition(dir string) (*definition, error) {
	b, err := readFile(filepath.Join(dir, "tokenizer.json"))
	if err == nil {
		return parseHF(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if b, err := readFile(filepath.Join(dir, "tekken.json")); err == nil {
		return parseTekken(b)
	}
	if exists(dir, "tiktoken.model") {
		return loadKimi(dir)
	}
	if ggufs, _ := filepath.Glob(filepath.Join(dir, "*.gguf")); len(ggufs) > 0 {
		return loadGGUF(ggufs[0])
	}
	return nil, fmt.Errorf("no tokenizer.json, tekken.json, tiktoken.model or .gguf file here: %w", err)
}

// loadFile reads the vocabulary in one file, by its name.
func loadFile(path string) (*definition, error) {
	name := strings.TrimSuffix(filepath.Base(path), ".gz")
	switch {
	case strings.HasSuffix(name, ".gguf"):
		return loadGGUF(path)
	case strings.HasSuffix(name, ".tiktoken"):
		return loadRankFile(path)
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if name == "tekken.json" {
		return parseTekken(b)
	}
	return parseHF(b)
}
