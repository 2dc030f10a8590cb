package tokenizer

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
)

// goldenFile is what testdata/golden.py wrote with Hugging Face's library.
type goldenFile struct {
	Splits map[string]struct {
		Patterns []string
		Cases    [][]string // pieces; together they are the text
	}
	Models map[string]struct {
		Tokenizer json.RawMessage
		Cases     []goldenCase
	}
	Ranks struct {
		File  string
		Cases [][2]json.RawMessage // text, ids
	}
}

// goldenCase is [text or null, ids, ids with special tokens, text of the ids,
// that without special tokens].
type goldenCase struct {
	text           *string
	ids, special   []uint32
	decoded, plain string
}

func (c *goldenCase) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&c.text, &c.ids, &c.special, &c.decoded, &c.plain})
}

func golden(t testing.TB) (g goldenFile) {
	t.Helper()
	b, err := readFile(filepath.Join("testdata", "golden.json.gz"))
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pieces splits s as Encode does, without merging.
func pieces(stages []stage, s string) (out []string) {
	if len(stages) == 0 {
		return []string{s}
	}
	if stages[0].regex != nil {
		for _, piece := range (&encoder{regexLeft: maxRegexBytes}).pieces(&stages[0], s) {
			out = append(out, pieces(stages[1:], piece)...)
		}
		return out
	}
	for i := 0; i < len(s); {
		end := stages[0].scan(s, i)
		out = append(out, pieces(stages[1:], s[i:end])...)
		i = end
	}
	return out
}

// splitStages has a scanner for each pattern.
func splitStages(t *testing.T, patterns []string) (stages []stage) {
	for _, pattern := range patterns {
		st, ok := knownPattern(pattern)
		if pattern == `\p{N}` {
			st, ok = digitsStage(true), true
		}
		if !ok {
			t.Fatalf("no scanner for %q", pattern)
		}
		stages = append(stages, st)
	}
	return fuse(stages)
}

func TestSplitsAreHuggingFaces(t *testing.T) {
	for name, split := range golden(t).Splits {
		t.Run(name, func(t *testing.T) {
			stages := splitStages(t, split.Patterns)
			for _, want := range split.Cases {
				whole := ""
				for _, piece := range want {
					whole += piece
				}
				if got := pieces(stages, whole); !slices.Equal(got, want) {
					t.Fatalf("%q:\ngot  %q\nwant %q", whole, got, want)
				}
			}
		})
	}
}

func TestModelsAreHuggingFaces(t *testing.T) {
	for name, model := range golden(t).Models {
		t.Run(name, func(t *testing.T) {
			tok, err := LoadJSON(model.Tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range model.Cases {
				if c.text != nil {
					if d := difference(tok.Encode(nil, *c.text, false), c.ids); d != "" {
						t.Errorf("%q: %s", *c.text, d)
					}
					if d := difference(tok.Encode(nil, *c.text, true), c.special); d != "" {
						t.Errorf("%q with special tokens: %s", *c.text, d)
					}
				}
				if got := string(tok.Decode(nil, c.ids, false)); got != c.decoded {
					t.Errorf("decode %v: got %q, want %q", c.ids, got, c.decoded)
				}
				if got := string(tok.Decode(nil, c.ids, true)); got != c.plain {
					t.Errorf("decode %v without special tokens: got %q, want %q", c.ids, got, c.plain)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

func TestRankFilesAreTiktokens(t *testing.T) {
	ranks := golden(t).Ranks
	d, err := parseRanks([]byte(ranks.File), patternO200K)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := d.build()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ranks.Cases {
		var text string
		var want []uint32
		if json.Unmarshal(c[0], &text) != nil || json.Unmarshal(c[1], &want) != nil {
			t.Fatalf("bad case %s", c)
		}
		got := tok.Encode(nil, text, false)
		if d := difference(got, want); d != "" {
			t.Errorf("%q: %s", text, d)
		}
		if back := string(tok.Decode(nil, got, false)); back != text {
			t.Errorf("%q came back as %q", text, back)
		}
	}
}
