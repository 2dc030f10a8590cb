package tokenizer

import (
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
)

var allPatterns = map[string]string{
	"gpt2": patternGPT2, "cl100k": patternCL100K, "qwen2": patternQwen2, "qwen35": patternQwen35, "o200k": patternO200K,
	"tekken": patternTekken, "kimi": patternKimiK2, "deepseek": patternDeepSeekRest,
}

// What 64 bytes show to be pieces are the scanner's.
func TestBoundsAreTheScanners(t *testing.T) {
	r := seeded(t)
	stages := map[string]stage{"digits": fuse([]stage{digitsStage(true), mustPattern(t, patternGPT2)})[0]}
	for name, pattern := range allPatterns {
		stages[name] = mustPattern(t, pattern)
	}
	for name, st := range stages {
		if st.bound == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			found := 0
			for range 3000 * effort(t) {
				s := boundText(r)
				for i := 0; i+window <= len(s); i = st.scan(s, i) {
					found += sameBounds(t, &st, s, i)
				}
			}
			if found == 0 {
				t.Fatal("no pieces in the text")
			}
		})
	}
}

func mustPattern(t *testing.T, pattern string) stage {
	t.Helper()
	st, ok := knownPattern(pattern)
	if !ok {
		t.Fatalf("%q has no scanner", pattern)
	}
	return st
}

// sameBounds counts the pieces that the 64 bytes at s[i] show.
func sameBounds(t *testing.T, st *stage, s string, i int) (found int) {
	t.Helper()
	var m masks
	m.classify(view(s[i : i+window]))
	starts, hard := st.bound(&m)
	from := i
	for at := 0; starts&1 != 0; found++ {
		hereIsHard := hard>>at&1 != 0
		if starts >>= 1; starts == 0 || hereIsHard {
			break
		}
		n := 1 + bits.TrailingZeros64(starts)
		starts >>= n - 1
		if end := st.scan(s, i); end != i+n {
			t.Fatalf("%q: the piece at %d has %d bytes, the scanner's has %d", s[from:], i-from, n, end-i)
		}
		i, at = i+n, at+n
	}
	return found
}

// boundText is mostly ASCII, of few characters, so that their orders all occur.
func boundText(r *rand.Rand) string {
	if r.IntN(4) == 0 {
		return randomText(r, nil) + randomText(r, nil)
	}
	alphabet := []string{"a", "s", "B", "L", "7", " ", " ", "\n", "\r", "\t", "\f", "'", "/", ".", "\x00", "\x1f", "\x7f", "ab", "'ll", "éx", "ſ", "\u0301", "\u2003", "½", "\u0085"}
	r.Shuffle(len(alphabet), func(i, j int) { alphabet[i], alphabet[j] = alphabet[j], alphabet[i] })
	alphabet = alphabet[:1+r.IntN(len(alphabet))]
	var b strings.Builder
	for b.Len() < 200 {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}
