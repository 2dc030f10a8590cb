package tokenizer

import (
	"encoding/binary"
	"sync"
	"unicode/utf8"

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

// nextSuspect is the first place from i on of a suspect rune; len(s) if there is
// none.
func nextSuspect(suspects *[0x110000 / 64]uint64, s string, i int) int {
	b := view(s)
	for i < len(b) {
		if i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:])&topBits == 0 {
			i += 8
			continue
		}
		r, n := runeAt(s, i)
		if suspects[r>>6]>>(r&63)&1 != 0 {
			return i
		}
		i += n
	}
	return len(s)
}

// appendNFC appends s in NFC; its first suspect is at i. A run of suspects and
// the rune before it are normalized on their own, the rest is copied.
func appendNFC(suspects *[0x110000 / 64]uint64, dst []byte, s string, i int) []byte {
	start := 0
	for i < len(s) {
		from := i
		if i > start {
			from -= runeBefore(s, i)
		}
		end := i
		for end < len(s) {
			r, n := runeAt(s, end)
			if suspects[r>>6]>>(r&63)&1 == 0 {
				break
			}
			end += n
		}
		dst = append(dst, s[start:from]...)
		dst = appendForm(norm.NFC, dst, s[from:end])
		start, i = end, nextSuspect(suspects, s, end)
	}
	return append(dst, s[start:]...)
}

// appendForm appends s in form f as the reference normalizes it: by Unicode 9.
// To it, a code point assigned later neither moves nor composes, so the text
// between two of those is normalized on its own. (Text that a newer Unicode
// calls normal is normal to it as well.)
func appendForm(f norm.Form, dst []byte, s string) []byte {
	for start := 0; start < len(s); {
		end, size := start, 0
		for end < len(s) {
			var r rune
			if r, size = runeAt(s, end); r >= 0x0378 && inTable(unassignedChanges[:], r) {
				break
			}
			end += size
			size = 0
		}
		if part := s[start:end]; hasMarkRun(f, part) {
			dst = appendMarks(f, dst, part)
		} else {
			// Not appended to dst itself, whose end could take part.
			dst = append(dst, f.AppendString(dst[len(dst):], part)...)
		}
		dst = append(dst, s[end:end+size]...)
		start = end + size
	}
	return dst
}

// hasMarkRun says whether s may hold so many marks in a row that package norm
// would part them: it writes U+034F after thirty, which no tokenizer does.
func hasMarkRun(f norm.Form, s string) bool {
	const most = 8 // a rune decomposes to at most three
	run := 0
	for i := 0; i < len(s); {
		if s[i] < 0x80 {
			run = 0
			i++
			continue
		}
		p := f.PropertiesString(s[i:])
		if run++; p.BoundaryBefore() {
			run = 0
		}
		if run > most {
			return true
		}
		i += p.Size()
	}
	return false
}

// mark is a rune with its canonical combining class.
type mark struct {
	r     rune
	class uint8
}

// appendMarks is appendForm by the book: decompose, order, compose.
func appendMarks(f norm.Form, dst []byte, s string) []byte {
	decompose := map[norm.Form]norm.Form{norm.NFC: norm.NFD, norm.NFD: norm.NFD, norm.NFKC: norm.NFKD, norm.NFKD: norm.NFKD}[f]
	var runes []mark
	var buf []byte
	for _, r := range s {
		buf = decompose.AppendString(buf[:0], string(r))
		for _, d := range text(buf) {
			runes = append(runes, mark{d, norm.NFD.PropertiesString(string(d)).CCC()})
		}
	}
	orderMarks(runes)
	if f != decompose {
		runes = composeMarks(runes)
	}
	for _, m := range runes {
		dst = utf8.AppendRune(dst, m.r)
	}
	return dst
}

// orderMarks sorts each run of marks by class, in time linear in its length.
func orderMarks(runes []mark) {
	var sorted []mark
	for start := 0; start < len(runes); start++ {
		end := start
		var count [257]int // of the marks of a lower class
		for ; end < len(runes) && runes[end].class != 0; end++ {
			count[int(runes[end].class)+1]++
		}
		for class := 1; class < len(count); class++ {
			count[class] += count[class-1]
		}
		sorted = append(sorted[:0], runes[start:end]...)
		for _, m := range sorted {
			runes[start+count[m.class]] = m
			count[m.class]++
		}
		start = end
	}
}

// composeMarks joins every mark with the starter before it where the two are one
// character and no mark of its class or a higher one stands between them.
func composeMarks(runes []mark) []mark {
	out, starter := runes[:0], -1
	var buf []byte
	for _, m := range runes {
		if starter >= 0 {
			last := out[len(out)-1].class
			if next := starter == len(out)-1; next || last != 0 && last < m.class {
				buf = norm.NFC.AppendString(buf[:0], string([]rune{out[starter].r, m.r}))
				if r, n := utf8.DecodeRune(buf); n == len(buf) {
					out[starter].r = r
					continue
				}
			}
		}
		if m.class == 0 {
			starter = len(out)
		}
		out = append(out, m)
	}
	return out
}
