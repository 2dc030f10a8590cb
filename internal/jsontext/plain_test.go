package jsontext

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// plain is Plain byte by byte.
func plain(s string) int {
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return len(s)
}

func check(t *testing.T, s string) {
	t.Helper()
	if got, want := Plain(s), plain(s); got != want {
		t.Errorf("Plain(%q) = %d, want %d", s, got, want)
	}
	if got, want := Plain([]byte(s)), plain(s); got != want {
		t.Errorf("Plain([]byte(%q)) = %d, want %d", s, got, want)
	}
}

// Every byte, at every place of a word, after and before every neighbour that a
// borrow could come from or go to.
func TestPlainFindsEveryByteEverywhere(t *testing.T) {
	check(t, "")
	for c := range 256 {
		for at := range 17 {
			for _, around := range []byte{'a', 0x80, 0xff, ' ', '!', '#', '[', ']', 0x7f} {
				b := []byte(strings.Repeat(string([]byte{around}), 20))
				b[at] = byte(c)
				check(t, string(b))
			}
		}
	}
}

func TestPlainAgreesWithBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("KVASIR_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("KVASIR_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
			if r.IntN(4) > 0 {
				b[i] |= 0x40 // fewer that end it
			}
		}
		check(t, string(b))
	}
}

func BenchmarkPlain(b *testing.B) {
	s := strings.Repeat("the quick brown fox ", 4000)
	b.Run("words", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		for b.Loop() {
			Plain(s)
		}
	})
	b.Run("bytes", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		for b.Loop() {
			plain(s)
		}
	})
}
