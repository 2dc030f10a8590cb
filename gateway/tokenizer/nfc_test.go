package tokenizer

import (
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"
)

func TestSuspectsAreAllThatNormalizationTouches(t *testing.T) {
	start := time.Now()
	suspects := nfcSuspects()
	t.Logf("built in %v", time.Since(start))
	check := func(s string) {
		t.Helper()
		if got, want := isNFC(suspects, s), norm.NFC.IsNormalString(s); got != want {
			t.Fatalf("%+q: got %v, want %v", s, got, want)
		}
	}
	for r := rune(0); r < 0x110000; r++ {
		if r < 0xD800 || r > 0xDFFF {
			check(string(r))
			check("e" + string(r))
			check("\u0301" + string(r) + "\u0323")
			check("\uac00" + string(r))
		}
	}
	r := seeded(t)
	for range 2000 * effort(t) {
		check(randomText(r, nil))
	}
}
