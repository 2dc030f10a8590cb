package tokenizer

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hugeSize is 100 kB for a test among others; KVASIR_EFFORT=100 makes it 10 MB.
func hugeSize(t *testing.T) int { return 100_000 * min(effort(t), 100) }

// allocated is the bytes that f allocates, freed or not: no less than what it
// needs at once.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// hugeTexts is text of size bytes that offers no place to split.
func hugeTexts(size int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	return map[string]string{
		"letters": fill("abcdefghij"), "one letter": fill("a"), "words in one": fill("thequickbrownfox"), "cased": fill("aA"), "kana": fill("あ漢"),
		"hangul": fill("한"), "spaces": fill(" ") + "x", "marks": fill("\u0301"), "marks of two classes": fill("\u0323\u0301") + "a",
		"a letter with marks": "e" + fill("\u0301\u0308\u0323"), "emoji": fill("👨‍👩"), "digits": fill("7"), "quotes": fill("'"), "bytes": fill("\U0001F9FF"),
	}
}

// One word of 10 MB, or nothing but combining marks: no model's work or memory
// grows faster than n log n. Were it to grow with the square, this would take hours.
func TestHugeWordsAreBounded(t *testing.T) {
	size := hugeSize(t)
	for _, name := range []string{"qwen", "gptoss", "phi3"} {
		t.Run(name, func(t *testing.T) {
			tok := mustLoad(t, shared(t, name))
			for kind, text := range hugeTexts(size) {
				var ids []uint32
				t0 := time.Now()
				bytes := allocated(func() { ids = tok.Encode(nil, text, false) })
				if len(ids) == 0 {
					t.Errorf("%s: no ids", kind)
				}
				// Ids as they grow, symbols, their links and the heap; the normalized
				// text, and its characters with their classes.
				if most := 250*size + 32<<20; bytes > most {
					t.Errorf("%s: %d MB allocated for %d kB of text; at most %d MB are due", kind, bytes>>20, size/1000, most>>20)
				}
				t.Logf("%s: %d bytes, %d ids, %v, %d MB allocated", kind, len(text), len(ids), time.Since(t0).Round(time.Millisecond), bytes>>20)
				whole := string(tok.Decode(nil, ids, false))
				if want := text; !tok.normalizer.nfc && whole != want {
					t.Errorf("%s: decodes to %d other bytes", kind, len(whole))
				}
			}
		})
	}
}

// A pattern without a scanner may backtrack over all of a text from every place in
// it. What that costs is bounded: beyond, the text is refused and nothing is guessed.
func TestUnknownPatternsAreBounded(t *testing.T) {
	tok, err := LoadJSON(golden(t).Models["bytes-unknown-pattern"].Tokenizer) // [a-z]+(?=\d)|...
	if err != nil {
		t.Fatal(err)
	}
	dst := []uint32{1, 2}
	refused := func(kind, text string) {
		t.Helper()
		t0 := time.Now()
		var ids []uint32
		bytes := allocated(func() { ids, err = tok.TryEncode(dst, text, true) })
		if !errors.Is(err, ErrTooCostly) || len(ids) != len(dst) {
			t.Errorf("%s: %d ids, %v; want none and ErrTooCostly", kind, len(ids)-len(dst), err)
		}
		if bytes > 64<<20 {
			t.Errorf("%s: %d MB allocated to refuse it", kind, bytes>>20)
		}
		t.Logf("%s: %d bytes refused in %v, %d MB allocated", kind, len(text), time.Since(t0).Round(time.Millisecond), bytes>>20)
		if ids := tok.Encode(dst, text, true); len(ids) != len(dst) {
			t.Errorf("%s: Encode appended %d ids", kind, len(ids)-len(dst))
		}
		if ids, err := tok.TryEncodePlain(dst, text); !errors.Is(err, ErrTooCostly) || len(ids) != len(dst) {
			t.Errorf("%s, plain: %d ids, %v", kind, len(ids)-len(dst), err)
		}
	}
	refused("more text than one call may split", strings.Repeat("ab 12 ", max(hugeSize(t), 2*maxRegexBytes)/6))
	// The refusal is remembered by nobody: the next text is encoded.
	if ids, err := tok.TryEncode(dst, "abc1", false); err != nil || string(tok.Decode(nil, ids[2:], false)) != "abc1" {
		t.Errorf("a short text after that: %v, %v", ids, err)
	}
	if effort(t) > 1 { // each takes seconds
		refused("a word that never ends as it has to", strings.Repeat("a", 200_000))
	}
}

// The regex engine's own bounds refuse as well: they must not pass for a split.
func TestTheRegexEnginesBoundsRefuse(t *testing.T) {
	st, err := patternStage(`(?:a|b)+c|.`)
	if err != nil {
		t.Fatal(err)
	}
	st.regex.MatchTimeout = time.Millisecond
	e := &encoder{regexLeft: maxRegexBytes}
	if pieces := e.pieces(&st, strings.Repeat("ab", 100_000)); pieces != nil || !errors.Is(e.err, ErrTooCostly) {
		t.Errorf("%d pieces, %v", len(pieces), e.err)
	}
}
