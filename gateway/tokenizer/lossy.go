package tokenizer

import "unicode/utf8"

// sequence reads the UTF-8 sequence that b, not empty, begins with. If it is
// whole, valid is set. If b ends inside it, partial is set. Otherwise size is
// that of the maximal invalid part, which reads as one U+FFFD; Go's decoder
// would give one for each byte.
func sequence[T []byte | string](b T) (size int, valid, partial bool) {
	lead := b[0]
	lo, hi := byte(0x80), byte(0xBF)
	var want int
	switch {
	case lead < 0x80:
		return 1, true, false
	case lead >= 0xC2 && lead <= 0xDF:
		want = 2
	case lead >= 0xE0 && lead <= 0xEF:
		want = 3
		if lead == 0xE0 {
			lo = 0xA0
		} else if lead == 0xED {
			hi = 0x9F
		}
	case lead >= 0xF0 && lead <= 0xF4:
		want = 4
		if lead == 0xF0 {
			lo = 0x90
		} else if lead == 0xF4 {
			hi = 0x8F
		}
	default:
		return 1, false, false
	}
	for size = 1; size < want; size++ {
		if size == len(b) {
			return size, false, true
		}
		if b[size] < lo || b[size] > hi {
			return size, false, false
		}
		lo, hi = 0x80, 0xBF
	}
	return size, true, false
}

// appendLossy appends b as valid UTF-8.
func appendLossy[T []byte | string](dst []byte, b T) []byte {
	for len(b) > 0 {
		n, valid, _ := sequence(b)
		if valid {
			dst = append(dst, b[:n]...)
		} else {
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
		b = b[n:]
	}
	return dst
}
