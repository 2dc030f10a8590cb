package tokenizer

import (
	"testing"

	"golang.org/x/text/unicode/norm"
)

func TestSuspectsAreAllThatNormalizationTouches(t *testing.T) {
	r := seeded(t)
	suspects := nfcSuspects()
	check := func(s string) {
		t.Helper()
		if got, want := isNFC(suspects, s), norm.NFC.IsNormalString(s); got != want {
			t.Fatalf("%+q: got %v, want %v", s, got, want)
		}
	}
	for c := rune(0); c < 0x110000; c++ {
		if c < 0xD800 || c > 0xDFFF {
			check(string(c))
			if c < 0x3000 || r.IntN(32) < effort(t) {
				check("e" + string(c))
				check("\u0301" + string(c) + "\u0323")
				check("\uac00" + string(c))
			}
		}
	}
	for range 2000 * effort(t) {
		check(randomText(r, nil))
	}
}
