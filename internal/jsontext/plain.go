package jsontext

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// Plain is how many leading bytes of s stand for themselves within a JSON
// string: up to a quote, a backslash, a control character or the end.
func Plain[T ~string | ~[]byte](s T) int {
	b := unsafe.Slice(unsafe.StringData(*(*string)(unsafe.Pointer(&s))), len(s)) // both begin with pointer and length
	i := 0
	for ; i+32 <= len(b); i += 32 {
		w := b[i : i+32 : i+32]
		if marks(w)|marks(w[8:])|marks(w[16:])|marks(w[24:]) != 0 {
			break
		}
	}
	for ; i+8 <= len(b); i += 8 {
		if m := marks(b[i:]); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return i
}

// marks has the top bits set of those among the first eight bytes of b that do
// not stand for themselves. The lowest mark is right; one above may be its borrow.
func marks(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	quote, backslash := x^('"'*ones), x^('\\'*ones)
	return ((quote-ones)&^quote | (backslash-ones)&^backslash | (x-' '*ones)&^x) & highs
}
