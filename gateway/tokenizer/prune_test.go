package tokenizer

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Neither the merges that are dropped nor starting from whole characters changes
// what a word becomes.
func TestPrunedMergesAreAllMerges(t *testing.T) {
	r := seeded(t)
	check := func(t *testing.T, load func() (*definition, error), rounds int) {
		all, err := load()
		if err != nil {
			t.Fatal(err)
		}
		rules := slices.Clone(all.merges)
		plain, err := all.build()
		if err != nil {
			t.Fatal(err)
		}
		plain.merges = newMergeTable(rules)
		plain.merges.bytes = plain.rankBytes()
		plain.runes, plain.cuts = nil, nil
		d, err := load()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := d.build()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d of %d merges; from characters: %v", len(d.merges), len(rules), tok.runes != nil)
		want, got := &encoder{t: plain}, &encoder{t: tok}
		for range rounds {
			word := randomText(r, nil)
			if r.IntN(2) == 0 { // what merges do most: whole pieces side by side
				word = ""
				for range 1 + r.IntN(4) {
					word += text(tok.vocab.bytes(uint32(r.IntN(len(tok.vocab.spans)))))
				}
				word = strings.ToValidUTF8(word, "é")
			}
			want.mergeSymbols(word)
			got.mergeSymbols(word)
			if d := difference(got.ids, want.ids); d != "" {
				t.Fatalf("%q: %s", word, d)
			}
		}
	}
	for name, model := range golden(t).Models {
		t.Run(name, func(t *testing.T) {
			check(t, func() (*definition, error) { return parseHF(model.Tokenizer) }, 1000*effort(t))
		})
	}
	for _, name := range []string{"qwen", "gptoss", "phi3"} {
		t.Run(name, func(t *testing.T) {
			path := shared(t, name)
			check(t, func() (*definition, error) { return loadFile(path) }, 20_000*effort(t))
		})
	}
	for _, name := range []string{"llama3", "deepseek"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(furtherModels(t), name, "tokenizer.json")
			check(t, func() (*definition, error) { return loadFile(path) }, 20_000*effort(t))
		})
	}
}
