package tokenizer

import (
	"strings"
	"testing"
)

// bytesOnly is a byte-level tokenizer whose pieces are the 256 bytes.
func bytesOnly(t *testing.T) *Tokenizer {
	t.Helper()
	d := newDefinition(256)
	for b := range 256 {
		d.vocab.add([]byte(string(byteChar[b])), uint32(b))
	}
	d.byteLevel, d.decoder.byteLevel = true, true
	tok, err := d.build()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func push(d *Decoder, s string) (out string, stopped bool) {
	for i := 0; i < len(s) && !stopped; i++ {
		var part string
		part, stopped = d.Push(uint32(s[i]))
		out += part
	}
	return out, stopped
}

func TestInvalidBytesBecomeOneMarkForEachMaximalPart(t *testing.T) {
	tok := bytesOnly(t)
	f := func(in, want string) {
		t.Helper()
		ids := make([]uint32, len(in))
		for i := 0; i < len(in); i++ {
			ids[i] = uint32(in[i])
		}
		if got := string(tok.Decode(nil, ids, false)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	f("\xf0\x9f\x98\x80", "😀")
	f("\xf0\x9f\x98", "\uFFFD")
	f("\xf0\x9f\x98a", "\uFFFDa")
	f("\xf0\x9f\x98\xf0", "\uFFFD\uFFFD")
	f("\xe0\x80\x80", "\uFFFD\uFFFD\uFFFD")
	f("\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD")
	f("\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD")
	f("\xc3\xc3\xa9", "\uFFFDé")
	f("\xff\xfe", "\uFFFD\uFFFD")
}

func TestDecoderHoldsBackUnfinishedCharacters(t *testing.T) {
	d := bytesOnly(t).NewDecoder(DecoderOptions{})
	if out, _ := push(d, "a\xf0\x9f\x98"); out != "a" {
		t.Fatalf("got %q before the character was whole", out)
	}
	if out, _ := push(d, "\x80"); out != "😀" {
		t.Fatalf("got %q for the last byte", out)
	}
	if out, _ := push(d, "\xe2\x82"); out != "" || d.Flush() != "\uFFFD" {
		t.Fatal("an unfinished character must come out at the end, as U+FFFD")
	}
}

func TestStopStringsEndTheText(t *testing.T) {
	tok := bytesOnly(t)
	f := func(in string, include bool, want string, wantStopped bool, stop ...string) {
		t.Helper()
		d := tok.NewDecoder(DecoderOptions{Stop: stop, IncludeStop: include})
		got, stopped := push(d, in)
		got += d.Flush()
		if got != want || stopped != wantStopped {
			t.Errorf("%q, stop %q: got %q, %v; want %q, %v", in, stop, got, stopped, want, wantStopped)
		}
	}
	f("hello END world", false, "hello ", true, "END")
	f("hello END world", true, "hello END", true, "END")
	f("hello EN", false, "hello EN", false, "END")
	f("aaab", false, "a", true, "aab")
	f("ababac", false, "ab", true, "abac", "zzz")
	f("xabcd", false, "x", true, "bcd", "abcd")
	f("xabc", false, "xa", true, "abcd", "bc")
	f("é日", false, "é", true, "日")
	f("abc", false, "abc", false, "")
}

// Against the plain search of the whole text: the first place where a stop
// string ends, and of those that end there the longest.
func TestStopStringsAgainstSearch(t *testing.T) {
	r := seeded(t)
	tok := bytesOnly(t)
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[r.IntN(2)]
		}
		return string(b)
	}
	for range 3000 * effort(t) {
		in, stops := letters(r.IntN(20)), []string{letters(1 + r.IntN(6)), letters(1 + r.IntN(6))}
		want, wantStopped := in, false
		for end := 0; end <= len(in) && !wantStopped; end++ {
			longest := 0
			for _, s := range stops {
				if strings.HasSuffix(in[:end], s) {
					longest = max(longest, len(s))
				}
			}
			if longest > 0 {
				want, wantStopped = in[:end-longest], true
			}
		}
		d := tok.NewDecoder(DecoderOptions{Stop: stops})
		got, stopped := push(d, in)
		if got += d.Flush(); got != want || stopped != wantStopped {
			t.Fatalf("%q, stops %q: got %q, %v; want %q, %v", in, stops, got, stopped, want, wantStopped)
		}
	}
}

// The text held back is never more than the longest stop string could still claim.
func TestDecoderDelaysNoMoreThanAStopStringCanClaim(t *testing.T) {
	d := bytesOnly(t).NewDecoder(DecoderOptions{Stop: []string{"<end>"}})
	if out, _ := push(d, "abc<en"); out != "abc" {
		t.Fatalf("got %q", out)
	}
	if out, _ := push(d, "x"); out != "<enx" {
		t.Fatalf("got %q after the stop string was ruled out", out)
	}
}
