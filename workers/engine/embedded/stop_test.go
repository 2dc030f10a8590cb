package embedded

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// stopAll feeds pieces and returns all text and the match.
func stopAll(s *stopper, pieces []string) (text, match string) {
	for _, p := range pieces {
		out, m := s.push(p)
		if text += out; m != "" {
			return text, m
		}
	}
	return text + s.flush(), ""
}

func TestStopStringsAreFoundAcrossPieces(t *testing.T) {
	for _, c := range []struct {
		stops       []string
		include     bool
		pieces      []string
		text, match string
	}{
		{[]string{"END"}, false, []string{"abcE", "N", "Dxyz"}, "abc", "END"},
		{[]string{"END"}, true, []string{"abcE", "N", "Dxyz"}, "abcEND", "END"},
		{[]string{"END"}, false, []string{"EN", "EN", "X"}, "ENENX", ""},
		{[]string{"END"}, false, []string{"EN"}, "EN", ""},
		{[]string{"bc", "abcd"}, false, []string{"xab", "cd"}, "x", "abcd"},
		{[]string{"\n\n", "."}, false, []string{"one. two\n\n"}, "one", "."},
		{nil, false, []string{"any", "thing"}, "anything", ""},
	} {
		text, match := stopAll(&stopper{stops: c.stops, include: c.include}, c.pieces)
		if text != c.text || match != c.match {
			t.Errorf("%q in %q: %q, %q; want %q, %q", c.stops, c.pieces, text, match, c.text, c.match)
		}
	}
}

func TestOnlyWhatMayBecomeAStopStringIsHeldBack(t *testing.T) {
	s := stopper{stops: []string{"<|im_end|>"}}
	if out, _ := s.push("a < b <|im"); out != "a < b " {
		t.Fatalf("got %q", out)
	}
	if out, _ := s.push("age|>"); out != "<|image|>" {
		t.Fatalf("got %q", out)
	}
}

func FuzzStopper(f *testing.F) {
	f.Add("hello END world", "END", "wor", uint64(3))
	f.Fuzz(func(t *testing.T, text, a, b string, cuts uint64) {
		if a == "" || b == "" || !utf8.ValidString(text) {
			return
		}
		var pieces []string
		for rest := text; rest != ""; {
			n := min(len(rest), 1+int(cuts%5))
			cuts = cuts>>3 | cuts<<61
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, match := stopAll(&stopper{stops: []string{a, b}}, pieces)
		if match == "" {
			if got != text || strings.Contains(text, a) || strings.Contains(text, b) {
				t.Fatalf("%q in %q: no match, text %q", []string{a, b}, pieces, got)
			}
			return
		}
		if !strings.HasPrefix(text, got+match) {
			t.Fatalf("%q in %q: %q then %q", []string{a, b}, pieces, got, match)
		}
	})
}
