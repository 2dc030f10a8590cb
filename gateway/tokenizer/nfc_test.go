package tokenizer

import (
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// Text normalized only where suspects are is text normalized as a whole.
func TestSuspectsAreAllThatNormalizationTouches(t *testing.T) {
	r := seeded(t)
	suspects := nfcSuspects()
	check := func(s string) {
		t.Helper()
		got := string(appendNFC(suspects, nil, s, nextSuspect(suspects, s, 0)))
		if want := string(appendForm(norm.NFC, nil, s)); got != want {
			t.Fatalf("%+q: got %+q, want %+q", s, got, want)
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

// Where package norm parts no run of marks, the book says what it says.
func TestMarksAreNormalizedByTheBook(t *testing.T) {
	r := seeded(t)
	for range 2000 * effort(t) {
		s := randomText(r, nil)
		for _, f := range []norm.Form{norm.NFC, norm.NFD, norm.NFKC, norm.NFKD} {
			want := f.String(s)
			if strings.Contains(want, "\u034F") {
				continue
			}
			if got := string(appendMarks(f, nil, s)); got != want {
				t.Fatalf("form %d of %+q: got %+q, want %+q", f, s, got, want)
			}
		}
	}
}
