package gateway

import (
	"bytes"

	"github.com/kvasir-ai/kvasir/internal/jsontext"
)

// shape is an event of a stream with holes where the text and its tokens are. The
// events of a stream are the same but for these, and what one said of usage and
// end the next ones say too: comparing bytes is far cheaper than searching them.
type shape struct {
	// An event is prefix, text, tail; or prefix, text, middle, tokens, tail.
	prefix, middle, tail []byte
	tokens               bool
}

// learn takes the shape of an event that says nothing of the answer but its next
// text, which comes after key.
func (s *shape) learn(payload, key []byte) {
	s.prefix = s.prefix[:0]
	for _, other := range [...][]byte{keyToolCalls, keyReasoning, keyReasoningToo} {
		if bytes.Contains(payload, other) {
			return
		}
	}
	at := bytes.Index(payload, key) + len(key)
	if i := bytes.Index(payload, keyAnyIDs); at < len(key) || i >= 0 && i < at {
		return
	}
	rest := payload[at:]
	n := inString(rest)
	if rest = rest[n:]; n == 0 || len(rest) == 0 || rest[0] != '"' {
		return
	}
	middle := 0
	if i := bytes.Index(rest, keyTokenIDs); i >= 0 {
		middle = i + len(keyTokenIDs)
	}
	tail := rest[middle:]
	if s.tokens = middle > 0; s.tokens {
		tail = tail[digits(tail):]
		if len(tail) == 0 || tail[0] != ']' || bytes.Contains(tail, keyAnyIDs) {
			return
		}
	}
	s.prefix = append(s.prefix, payload[:at]...)
	s.middle = append(s.middle[:0], rest[:middle]...)
	s.tail = append(s.tail[:0], tail...)
}

// match reports whether an event has the shape, and what is in its holes.
func (s *shape) match(payload []byte) (text, tokens []byte, ok bool) {
	if len(s.prefix) == 0 || !bytes.HasPrefix(payload, s.prefix) {
		return nil, nil, false
	}
	rest := payload[len(s.prefix):]
	n := inString(rest)
	if text, rest = rest[:n], rest[n:]; n == 0 {
		return nil, nil, false
	}
	if !s.tokens {
		return text, nil, bytes.Equal(rest, s.tail)
	}
	if rest, ok = bytes.CutPrefix(rest, s.middle); !ok {
		return nil, nil, false
	}
	n = digits(rest)
	return text, rest[:n], n > 0 && bytes.Equal(rest[n:], s.tail)
}

// appendUnnamed appends an event of the shape without its tokens.
func (s *shape) appendUnnamed(dst, text []byte) []byte {
	dst = append(append(dst, s.prefix...), text...)
	dst = append(append(dst, s.middle[:len(s.middle)-1]...), "null"...)
	return append(dst, s.tail[1:]...)
}

// inString is how much of b is before the end of the JSON string that it is in.
func inString(b []byte) (n int) {
	for {
		n += jsontext.Plain(b[n:])
		if n+1 >= len(b) || b[n] != '\\' {
			return n
		}
		n += 2
	}
}

// digits is the length of the numbers and commas that b begins with.
func digits(b []byte) (n int) {
	for n < len(b) && (b[n] == ',' || '0' <= b[n] && b[n] <= '9') {
		n++
	}
	return n
}
