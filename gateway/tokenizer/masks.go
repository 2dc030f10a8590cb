package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

// masks is 64 bytes of text, each mask one class of ASCII: bit i is about byte i.
type masks struct {
	letter, upper, number uint64
	space, newline, blank uint64 // \s, \r or \n, and ' '
	quote, slash          uint64
	foreign               uint64 // not ASCII
	other                 uint64 // ASCII that is neither letter, number nor space
}

const (
	window   = 64 // bytes of one masks
	eachByte = 0x0101010101010101
	topBits  = 0x80 * eachByte
)

// classifyPortably is classify eight bytes at a time: the top bit of each is made
// to tell, and the eight of them are gathered.
func (m *masks) classifyPortably(b []byte) {
	*m = masks{}
	for i := 0; i < window; i += 8 {
		x := binary.LittleEndian.Uint64(b[i : i+8 : i+8])
		y := x &^ topBits
		lower, letter := within(y, 'a', 'z'), within(y|0x20*eachByte, 'a', 'z')
		newline := within(y^'\n'*eachByte, 0, 0) | within(y^'\r'*eachByte, 0, 0)
		blank := within(y^' '*eachByte, 0, 0)
		m.foreign |= gather(x) << i
		m.letter |= gather(letter&^x) << i
		m.upper |= gather(letter&^lower&^x) << i
		m.number |= gather(within(y, '0', '9')&^x) << i
		m.space |= gather((within(y, '\t', '\r')|blank)&^x) << i
		m.newline |= gather(newline&^x) << i
		m.blank |= gather(blank&^x) << i
		m.quote |= gather(within(y^'\''*eachByte, 0, 0)&^x) << i
		m.slash |= gather(within(y^'/'*eachByte, 0, 0)&^x) << i
	}
	m.other = ^(m.letter | m.number | m.space | m.foreign)
}

// within sets the top bit of each byte of y, none of which has it, that is from
// lo to hi.
func within(y uint64, lo, hi uint64) uint64 {
	return (y + (0x80-lo)*eachByte) &^ (y + (0x7F-hi)*eachByte)
}

// gather makes one byte of the top bits of eight.
func gather(x uint64) uint64 { return x >> 7 & eachByte * 0x0102040810204080 >> 56 }

// A bounder finds piece boundaries of a split pattern among 64 bytes that begin
// with a piece. In starts, a bit is set where a piece surely starts, and every
// piece that ends at or before the last of them has its bit; bit 0 is set. The
// piece that starts at a bit of hard is left to the pattern's scanner, as is what
// comes after the last bit.
type bounder func(m *masks) (starts, hard uint64)

// certain keeps of starts what no byte behind the window and no byte of stop can
// change: a run of spaces is only understood once its end is seen.
func (m *masks) certain(starts, stop uint64) uint64 {
	stop |= m.foreign
	solid := ^m.space & (stop&-stop - 1)
	return starts&(1<<(64-bits.LeadingZeros64(solid))-1) | 1
}

// lines is where the pieces of \s*[\r\n]+|\s+(?!\S)|\s+ start, if other
// characters take the newlines of trail that follow them; stop is where that is
// not as simple: spaces between two newlines.
func (m *masks) lines(trail uint64) (starts, stop uint64) {
	indent := m.space &^ m.newline
	after := indent & (m.newline << 1)
	stop = (indent + after) &^ indent & m.newline
	return m.space&^(m.space<<1)&^trail | after | indent&^(m.space>>1), stop
}

// single is characters other than letters that lead the letters they precede.
func (m *masks) single() uint64 { return m.other &^ (m.other << 1) &^ (m.blank << 1) }

// boundCL100K is of scanCL100K.
func boundCL100K(numbers int) bounder {
	return func(m *masks) (starts, hard uint64) {
		lone := m.single()
		words := m.letter &^ ((m.letter | m.space&^m.newline | lone) << 1)
		spaces, stop := m.lines(m.newline & (m.other << 1))
		starts = words | lone | spaces | m.numbers(numbers)
		return m.certain(starts, stop), m.quote & lone & (m.letter >> 1)
	}
}

// boundO200K is of scanO200K; slashes says that those trail other characters.
func boundO200K(numbers int, contractions, slashes bool) bounder {
	return func(m *masks) (starts, hard uint64) {
		lone := m.single()
		words := m.letter &^ ((m.letter | m.space&^m.newline | lone) << 1)
		words |= m.upper & (m.letter &^ m.upper << 1)
		trail := m.newline & (m.other << 1)
		spaces, stop := m.lines(trail)
		if slashes {
			stop |= (m.newline + trail) &^ m.newline & m.slash
		}
		starts = m.certain(words|lone|spaces|m.numbers(numbers), stop)
		if contractions {
			// The word before the quote is in doubt.
			doubt := m.quote & (m.letter << 1) & ((m.letter|m.foreign)>>1 | 1<<63)
			if doubt &= -doubt; doubt != 0 {
				hard = 1 << (63 - bits.LeadingZeros64(starts&(doubt-1)))
			}
		}
		return starts, hard
	}
}

// boundGPT2 is of scanGPT2, or of scanDigitsGPT2.
func boundGPT2(digits bool) bounder {
	return func(m *masks) (starts, hard uint64) {
		lone := m.single()
		words := m.letter&^(m.letter<<1) | m.other&^(m.other<<1)
		last := m.space &^ (m.space >> 1)
		if digits {
			last &^= m.number >> 1
		} else {
			words |= m.number &^ (m.number << 1)
		}
		starts = words&^(m.blank<<1) | m.space&^(m.space<<1) | last
		if digits {
			starts |= m.number
		}
		return m.certain(starts, 0), m.quote & lone & (m.letter >> 1)
	}
}

// numbers is where the pieces of \p{N}{1,limit} start; limit is 1 or 3.
func (m *masks) numbers(limit int) uint64 {
	if limit == 1 {
		return m.number
	}
	starts := m.number &^ (m.number << 1)
	inside := m.number & (m.number << 1) & (m.number << 2)
	for next := starts << 3 & inside; next != 0; next = next << 3 & inside {
		starts |= next
	}
	return starts
}
