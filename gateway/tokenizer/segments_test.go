package tokenizer

import (
	"strings"
	"testing"
)

// longText is many lines, so that there is much to cut.
func longText(r interface{ IntN(int) int }, lines []string) string {
	var b strings.Builder
	for b.Len() < 60_000 {
		b.WriteString(lines[r.IntN(len(lines))])
		b.WriteString([]string{"\n", "\n\n", "\r\n", " \n ", "\n/", "\n\t", ";\n", "<s>", " "}[r.IntN(9)])
	}
	return b.String()
}

// Neither cutting into segments nor the cache changes an id.
func TestSegmentsChangeNothing(t *testing.T) {
	r := seeded(t)
	for name, model := range golden(t).Models {
		t.Run(name, func(t *testing.T) {
			tok, err := LoadJSON(model.Tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			whole, _ := LoadJSON(model.Tokenizer)
			whole.newlines = 0
			lines := make([]string, 40)
			for i := range lines {
				lines[i] = randomText(r, nil)
			}
			for range 3 * effort(t) {
				text := longText(r, lines)
				want := whole.Encode(nil, text, false)
				for _, pass := range []string{"cold", "warm"} {
					if d := difference(tok.Encode(nil, text, false), want); d != "" {
						t.Fatalf("%s: %s", pass, d)
					}
				}
			}
		})
	}
}

// Every cut that is said to be exact is: the parts' ids are the whole's.
func TestEveryNewlineCutIsExact(t *testing.T) {
	r := seeded(t)
	for name, model := range golden(t).Models {
		tok, err := LoadJSON(model.Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		if tok.newlines == 0 {
			continue
		}
		e := &encoder{t: tok}
		encode := func(s string) []uint32 {
			e.dst = nil
			if s != "" {
				e.splitOrMerge(s)
			}
			return e.dst
		}
		for range 300 * effort(t) {
			text := randomText(r, nil) + "\n" + randomText(r, nil)
			whole := encode(text)
			for i := 1; i < len(text); i++ {
				if text[i] != '\n' {
					continue
				}
				if cut := tok.cutAtNewline(text, i); cut > 0 {
					if d := difference(append(encode(text[:cut]), encode(text[cut:])...), whole); d != "" {
						t.Fatalf("%s: %q cut at %d: %s", name, text, cut, d)
					}
				}
			}
		}
	}
}

// An edit in the middle of a long text leaves most segments as they were.
func TestCutsFallIntoPlaceAfterAnEdit(t *testing.T) {
	r := seeded(t)
	tok, err := LoadJSON(golden(t).Models["bytes-deepseek"].Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for b.Len() < 200_000 {
		b.WriteString(randomText(r, nil) + "\nx")
	}
	segments := func(s string) map[string]bool {
		set := map[string]bool{}
		for s != "" {
			end := tok.nextCut(s)
			set[s[:end]] = true
			s = s[end:]
		}
		return set
	}
	text := b.String()
	before, after := segments(text), segments(text[:100]+"an edit\n"+text[100:])
	kept := 0
	for s := range after {
		if before[s] {
			kept++
		}
	}
	if kept < len(after)*3/4 {
		t.Errorf("%d of %d segments survived an edit near the start", kept, len(after))
	}
}
