package events

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder reads MessagePack from a slice. General decoders read token ids
// through an io.Reader, which is most of the cost of a long prompt's event, and
// skip unknown values by recursion, which lets a few bytes from the wire
// exhaust the stack. The first error stays; after it every read returns zero.
type decoder struct {
	b      []byte
	err    error
	memory *arena
}

type kind uint8

const (
	kindEnd kind = iota
	kindNil
	kindUint
	kindInt // negative, or sent as signed
	kindString
	kindBytes
	kindArray
	kindMap
	kindOther
)

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

// peek is the kind of the next value.
func (d *decoder) peek() kind {
	if len(d.b) == 0 {
		return kindEnd
	}
	switch c := d.b[0]; {
	case c <= 0x7F, 0xCC <= c && c <= 0xCF:
		return kindUint
	case c >= 0xE0, 0xD0 <= c && c <= 0xD3:
		return kindInt
	case c == 0xC0:
		return kindNil
	case c&0xE0 == 0xA0, 0xD9 <= c && c <= 0xDB:
		return kindString
	case 0xC4 <= c && c <= 0xC6:
		return kindBytes
	case c&0xF0 == 0x90, c == 0xDC, c == 0xDD:
		return kindArray
	case c&0xF0 == 0x80, c == 0xDE, c == 0xDF:
		return kindMap
	}
	return kindOther
}

// take is the next n bytes.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// big reads an unsigned big-endian integer of n bytes.
func (d *decoder) big(n uint64) uint64 {
	p := d.take(n)
	switch len(p) {
	case 1:
		return uint64(p[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(p))
	case 4:
		return uint64(binary.BigEndian.Uint32(p))
	case 8:
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) code() byte {
	p := d.take(1)
	if p == nil {
		return 0xC1 // never used by MessagePack
	}
	return p[0]
}

func (d *decoder) null() bool {
	if d.peek() != kindNil {
		return false
	}
	d.b = d.b[1:]
	return true
}

func (d *decoder) uint() uint64 {
	switch c := d.code(); {
	case c <= 0x7F:
		return uint64(c)
	case 0xCC <= c && c <= 0xCF:
		return d.big(1 << (c - 0xCC))
	}
	d.fail("want an unsigned integer")
	return 0
}

func (d *decoder) int() int64 {
	switch c := d.code(); {
	case c >= 0xE0:
		return int64(int8(c))
	case c == 0xD0:
		return int64(int8(d.big(1)))
	case c == 0xD1:
		return int64(int16(d.big(2)))
	case c == 0xD2:
		return int64(int32(d.big(4)))
	case c == 0xD3:
		return int64(d.big(8))
	}
	d.fail("want a signed integer")
	return 0
}

// optionalInt reads an integer; anything else is passed over.
func (d *decoder) optionalInt() (int64, bool) {
	switch d.peek() {
	case kindUint:
		v := d.uint()
		return int64(v), v <= math.MaxInt32
	case kindInt:
		return d.int(), true
	}
	d.skip()
	return 0, false
}

// float reads a number.
func (d *decoder) float() float64 {
	switch d.peek() {
	case kindUint:
		return float64(d.uint())
	case kindInt:
		return float64(d.int())
	}
	switch d.code() {
	case 0xCA:
		return float64(math.Float32frombits(uint32(d.big(4))))
	case 0xCB:
		return math.Float64frombits(d.big(8))
	}
	d.fail("want a number")
	return 0
}

// bytes reads a string or byte string; the result points into the message.
func (d *decoder) bytes() []byte {
	switch c := d.code(); {
	case c&0xE0 == 0xA0:
		return d.take(uint64(c & 0x1F))
	case c == 0xD9, c == 0xC4:
		return d.take(d.big(1))
	case c == 0xDA, c == 0xC5:
		return d.take(d.big(2))
	case c == 0xDB, c == 0xC6:
		return d.take(d.big(4))
	}
	d.fail("want a string")
	return nil
}

// optionalStr reads a string; anything else, nil above all, is passed over.
func (d *decoder) optionalStr() string {
	if k := d.peek(); k != kindString && k != kindBytes {
		d.skip()
		return ""
	}
	return string(d.bytes())
}

// length reads the head of an array or map.
func (d *decoder) length(what string, fix, short byte, limit int) int {
	n := uint64(0)
	switch c := d.code(); {
	case c&0xF0 == fix:
		n = uint64(c & 0x0F)
	case c == short:
		n = d.big(2)
	case c == short+1:
		n = d.big(4)
	default:
		d.fail("want %s", what)
	}
	if n > uint64(limit) {
		d.fail("%s of %d elements, more than %d", what, n, limit)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) arrayLen(limit int) int { return d.length("an array", 0x90, 0xDC, limit) }
func (d *decoder) mapLen(limit int) int   { return d.length("a map", 0x80, 0xDE, limit) }

// plausible is n, or less where the message is too short to hold n values: what
// a length on the wire may allocate.
func (d *decoder) plausible(n int) int { return min(n, len(d.b)) }

// skip passes over one value of any kind, however deep.
func (d *decoder) skip() {
	for left := uint64(1); left > 0 && d.err == nil; left-- {
		switch d.peek() {
		case kindNil:
			d.null()
		case kindUint:
			d.uint()
		case kindInt:
			d.int()
		case kindString, kindBytes:
			d.bytes()
		case kindArray:
			left += uint64(d.arrayLen(math.MaxInt32))
		case kindMap:
			left += 2 * uint64(d.mapLen(math.MaxInt32))
		default:
			d.skipOther()
		}
	}
}

// skipOther passes over booleans, floats and extension types.
func (d *decoder) skipOther() {
	switch c := d.code(); {
	case c == 0xC2, c == 0xC3:
	case c == 0xCA:
		d.take(4)
	case c == 0xCB:
		d.take(8)
	case 0xD4 <= c && c <= 0xD8: // fixext 1 to 16
		d.take(1 + 1<<(c-0xD4))
	case 0xC7 <= c && c <= 0xC9: // ext 8, 16, 32
		d.take(1 + d.big(1<<(c-0xC7)))
	default:
		d.fail("unknown code %#x", c)
	}
}
