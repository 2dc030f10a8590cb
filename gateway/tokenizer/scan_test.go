package tokenizer

import "testing"

var allPatterns = map[string]string{
	"gpt2": patternGPT2, "cl100k": patternCL100K, "qwen2": patternQwen2, "qwen35": patternQwen35, "o200k": patternO200K,
	"tekken": patternTekken, "kimi": patternKimiK2, "deepseek": patternDeepSeekRest,
}

// Words that 16 bytes show are the words that the scanner finds.
func TestFastWordsAreTheScanners(t *testing.T) {
	r := seeded(t)
	for name, pattern := range allPatterns {
		t.Run(name, func(t *testing.T) {
			st, _ := knownPattern(pattern)
			found := 0
			for range 3000 * effort(t) {
				s := randomText(r, nil) + randomText(r, nil)
				b := view(s)
				for i := 0; i+16 <= len(s); {
					end := st.scan(s, i)
					if key, n := st.fast.word(b[i : i+16 : i+16]); n > 0 {
						found++
						if i+n != end || key != pack(s, i, end) {
							t.Fatalf("%q: fast word of %d bytes, scanner's has %d", s[i:], n, end-i)
						}
					}
					i = end
				}
			}
			if found == 0 {
				t.Fatal("no fast words in the text")
			}
		})
	}
}
