package tokenizer

import (
	"encoding/binary"
	"sync"

	"golang.org/x/text/unicode/norm"
)

// nfcSuspects has a bit for every rune that may take part in normalization: it
// is not NFC on its own, moves, or composes with what stands before it. Text
// without one is NFC.
var nfcSuspects = sync.OnceValue(func() *[0x110000 / 64]uint64 {
	bits := new([0x110000 / 64]uint64)
	var buf []byte
	for r := rune(0x300); r < 0x2FA20; r++ {
		switch { // ideographs and Hangul syllables, which are NFC and many
		case r == 0x3400:
			r = 0xA000
		case r == 0xAC00:
			r = 0xF900
		case r == 0x20000:
			r = 0x2F800
		}
		buf = append(buf[:0], string(r)...)
		if !norm.NFC.Properties(buf).BoundaryBefore() || !norm.NFC.IsNormal(buf) {
			bits[r>>6] |= 1 << (r & 63)
		}
	}
	return bits
})

// isNFC is exact, fast for text without suspects.
func isNFC(suspects *[0x110000 / 64]uint64, s string) bool {
	b := view(s)
	for i := 0; i < len(b); {
		if i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:])&topBits == 0 {
			i += 8
			continue
		}
		r, n := runeAt(s, i)
		if suspects[r>>6]>>(r&63)&1 != 0 {
			return norm.NFC.IsNormalString(s)
		}
		i += n
	}
	return true
}
