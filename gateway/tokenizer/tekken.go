package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// tekkenFile is Mistral's tekken.json.
type tekkenFile struct {
	Config struct {
		Pattern     string `json:"pattern"`
		VocabSize   int    `json:"default_vocab_size"`
		NumSpecials int    `json:"default_num_special_tokens"`
	} `json:"config"`
	Vocab []struct {
		Rank  uint32 `json:"rank"`
		Bytes []byte `json:"token_bytes"`
	} `json:"vocab"`
	Specials []tekkenSpecial `json:"special_tokens"`
}

type tekkenSpecial struct {
	Rank uint32 `json:"rank"`
	Text string `json:"token_str"`
}

// firstTekkenSpecials are those of files that list none, the first two that were
// made.
var firstTekkenSpecials = strings.Fields(`<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS]
	[/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]
	[TOOL_CONTENT]`)

// specials lists the special tokens: those of the file, and fillers up to the
// number that the file says.
func (f *tekkenFile) specials() []tekkenSpecial {
	list := f.Specials
	if list == nil {
		for i, text := range firstTekkenSpecials {
			list = append(list, tekkenSpecial{uint32(i), text})
		}
	}
	for i := len(list); i < f.Config.NumSpecials; i++ {
		list = append(list, tekkenSpecial{uint32(i), fmt.Sprintf("<SPECIAL_%d>", i)})
	}
	return list
}

// parseTekken reads tekken.json. Special tokens come first; a piece's id is its
// rank and their number.
func parseTekken(b []byte) (*definition, error) {
	var f tekkenFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("tekken.json: %w", err)
	}
	offset, count := f.Config.NumSpecials, f.Config.VocabSize-f.Config.NumSpecials
	if offset < 0 || offset > 1<<16 || count <= 0 {
		return nil, errors.New("tekken.json: expected default_vocab_size above default_num_special_tokens, and the latter up to 65,536")
	}
	d, err := newByteLevel(min(count, len(f.Vocab)), f.Config.Pattern)
	if err != nil {
		return nil, err
	}
	var spelled []byte
	for _, piece := range f.Vocab[:min(count, len(f.Vocab))] {
		if piece.Rank >= maxID-uint32(offset) {
			return nil, fmt.Errorf("tekken.json: rank %d; expected one below %d", piece.Rank, maxID)
		}
		spelled = appendSpelled(spelled[:0], piece.Bytes)
		d.vocab.add(spelled, piece.Rank+uint32(offset))
	}
	d.rankMerges()
	for _, s := range f.specials() {
		if s.Rank >= uint32(offset) {
			return nil, fmt.Errorf("tekken.json: special token %q has rank %d; expected one below %d", s.Text, s.Rank, offset)
		}
		d.added = append(d.added, addedToken{content: s.Text, id: s.Rank, special: true})
		switch s.Text {
		case "<s>":
			d.specials["bos_token"], d.bos, d.prefix = s.Text, s.Rank, []uint32{s.Rank}
		case "</s>":
			d.specials["eos_token"], d.eos = s.Text, []uint32{s.Rank}
		}
	}
	return d, nil
}
