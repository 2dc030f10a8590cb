package tokenizer

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader walks a JSON text in place. encoding/json takes about a second for
// a large tokenizer.json; the walker exists for its vocabulary and merges, the
// small parts go through encoding/json. The first error sticks and ends every
// loop.
type jsonReader struct {
	b   []byte
	i   int
	err error
	buf []byte
}

const maxJSONDepth = 64

func (r *jsonReader) fail(want string) {
	if r.err == nil {
		line := 1 + bytes.Count(r.b[:min(r.i, len(r.b))], []byte("\n"))
		r.err = fmt.Errorf("line %d, byte %d: expected %s", line, r.i, want)
	}
}

// peek is the next byte that is not a space, 0 at the end or after an error.
func (r *jsonReader) peek() byte {
	if r.err != nil {
		return 0
	}
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) accept(c byte) bool {
	if r.peek() != c || r.err != nil {
		return false
	}
	r.i++
	return true
}

func (r *jsonReader) expect(c byte) {
	if !r.accept(c) {
		r.fail(strconv.Quote(string(c)))
	}
}

// object calls member for each key; member must read the value. key is valid
// until then.
func (r *jsonReader) object(member func(key []byte)) {
	r.expect('{')
	if r.accept('}') {
		return
	}
	for r.err == nil {
		key := r.str()
		r.expect(':')
		if r.err != nil {
			return
		}
		member(key)
		if r.accept('}') {
			return
		}
		r.expect(',')
	}
}

// array calls element for each element; it must read it.
func (r *jsonReader) array(element func()) {
	r.expect('[')
	if r.accept(']') {
		return
	}
	for r.err == nil {
		element()
		if r.accept(']') {
			return
		}
		r.expect(',')
	}
}

// str reads a string; the result is valid until the next one is read.
func (r *jsonReader) str() []byte {
	r.expect('"')
	if r.err != nil {
		return nil
	}
	start := r.i
	for ; r.i < len(r.b); r.i++ {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return r.b[start : r.i-1]
		case c == '\\':
			return r.escaped(start)
		case c < 0x20:
			r.fail("a string without control characters")
			return nil
		}
	}
	r.fail("the end of a string")
	return nil
}

// escaped is str from the first backslash on.
func (r *jsonReader) escaped(start int) []byte {
	r.buf = append(r.buf[:0], r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return r.buf
		case c < 0x20:
			r.fail("a string without control characters")
			return nil
		case c != '\\':
			r.buf = append(r.buf, c)
			continue
		}
		if r.i == len(r.b) {
			break
		}
		c = r.b[r.i]
		r.i++
		switch c {
		case '"', '\\', '/':
			r.buf = append(r.buf, c)
		case 'b':
			r.buf = append(r.buf, '\b')
		case 'f':
			r.buf = append(r.buf, '\f')
		case 'n':
			r.buf = append(r.buf, '\n')
		case 'r':
			r.buf = append(r.buf, '\r')
		case 't':
			r.buf = append(r.buf, '\t')
		case 'u':
			r.buf = utf8.AppendRune(r.buf, r.codePoint())
		default:
			r.fail("an escape sequence")
			return nil
		}
	}
	r.fail("the end of a string")
	return nil
}

// codePoint reads what follows \u, and the second half of a surrogate pair.
func (r *jsonReader) codePoint() rune {
	c := r.hex4()
	if !utf16.IsSurrogate(c) || r.i+1 >= len(r.b) || r.b[r.i] != '\\' || r.b[r.i+1] != 'u' {
		return c
	}
	back := r.i
	r.i += 2
	if full := utf16.DecodeRune(c, r.hex4()); full != utf8.RuneError {
		return full
	}
	r.i = back
	return utf8.RuneError
}

func (r *jsonReader) hex4() rune {
	if r.i+4 <= len(r.b) {
		if v, err := strconv.ParseUint(string(r.b[r.i:r.i+4]), 16, 32); err == nil {
			r.i += 4
			return rune(v)
		}
	}
	r.fail("four hexadecimal digits")
	return utf8.RuneError
}

// maxID bounds ids, and so the memory that a hostile file can ask for.
const maxID = 1 << 21

// id reads a token id.
func (r *jsonReader) id() uint32 {
	r.peek()
	start, v := r.i, uint32(0)
	for r.i < len(r.b) && r.b[r.i]-'0' < 10 && v < maxID {
		v = v*10 + uint32(r.b[r.i]-'0')
		r.i++
	}
	if start == r.i || v >= maxID {
		r.fail("a token id below " + strconv.Itoa(maxID))
	}
	return v
}

// raw skips a value and returns its text.
func (r *jsonReader) raw() []byte {
	r.peek()
	start := r.i
	r.skip(0)
	if r.err != nil {
		return nil
	}
	return r.b[start:r.i]
}

func (r *jsonReader) skip(depth int) {
	if depth > maxJSONDepth {
		r.fail("less nesting")
		return
	}
	switch r.peek() {
	case '{':
		r.object(func([]byte) { r.skip(depth + 1) })
	case '[':
		r.array(func() { r.skip(depth + 1) })
	case '"':
		r.str()
	default:
		start := r.i
		for r.i < len(r.b) && bytes.IndexByte([]byte(",]} \t\r\n"), r.b[r.i]) < 0 {
			r.i++
		}
		if start == r.i {
			r.fail("a value")
		}
	}
}
