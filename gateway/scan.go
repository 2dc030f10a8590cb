package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/jsontext"
)

// maxDepth bounds nesting: deeper bodies are attacks, and some engines'
// parsers recurse.
const maxDepth = 256

// syntaxError is where and why a document is not JSON.
type syntaxError struct {
	at  int
	why string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.why, e.at) }

// scanner walks one JSON document in place. It accepts what RFC 8259 accepts
// (and so what encoding/json does) up to maxDepth, and decodes nothing but
// object keys.
type scanner struct {
	b []byte
	i int
}

// eachField calls f for every member of the object that b is, in order. The
// key is decoded; the value is the member's bytes.
func eachField(b []byte, f func(key, value []byte) error) error {
	s := scanner{b: b}
	s.space()
	if s.peek() != '{' {
		return s.bad("expected an object")
	}
	if err := s.object(0, f); err != nil {
		return err
	}
	return s.end()
}

// eachElement calls f for every element of the array that b is, in order.
func eachElement(b []byte, f func(value []byte) error) error {
	s := scanner{b: b}
	s.space()
	if s.peek() != '[' {
		return s.bad("expected an array")
	}
	if err := s.array(0, f); err != nil {
		return err
	}
	return s.end()
}

func (s *scanner) bad(why string) error { return &syntaxError{at: s.i, why: why} }

// peek is the next byte, 0 at the end (a NUL is not JSON either).
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) end() error {
	s.space()
	if s.i != len(s.b) {
		return s.bad("expected the end of the document")
	}
	return nil
}

func (s *scanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '"':
		_, err := s.str()
		return err
	case c == '{':
		return s.object(depth, nil)
	case c == '[':
		return s.array(depth, nil)
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.bad("expected a value")
}

func (s *scanner) object(depth int, f func(key, value []byte) error) error {
	if depth >= maxDepth {
		return s.bad("nested too deeply")
	}
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.bad("expected a key")
		}
		start := s.i
		escaped, err := s.str()
		if err != nil {
			return err
		}
		key := s.b[start+1 : s.i-1]
		if escaped && f != nil {
			if key, err = decodeString(s.b[start:s.i]); err != nil {
				return err
			}
		}
		if s.space(); s.peek() != ':' {
			return s.bad("expected ':'")
		}
		s.i++
		s.space()
		start = s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if f != nil {
			if err := f(key, s.b[start:s.i]); err != nil {
				return err
			}
		}
		if done, err := s.next('}'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) array(depth int, f func(value []byte) error) error {
	if depth >= maxDepth {
		return s.bad("nested too deeply")
	}
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		start := s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if f != nil {
			if err := f(s.b[start:s.i]); err != nil {
				return err
			}
		}
		if done, err := s.next(']'); done || err != nil {
			return err
		}
	}
}

// next consumes the closing byte (done) or a comma and the space around it.
func (s *scanner) next(closing byte) (done bool, err error) {
	s.space()
	switch s.peek() {
	case closing:
		s.i++
		return true, nil
	case ',':
		s.i++
		s.space()
		return false, nil
	}
	return false, s.bad("expected ',' or '" + string(closing) + "'")
}

// str skips a string and says whether it holds escapes.
func (s *scanner) str() (escaped bool, err error) {
	s.i++
	for {
		s.i += jsontext.Plain(s.b[s.i:])
		if s.i == len(s.b) {
			break
		}
		switch s.b[s.i] {
		case '"':
			s.i++
			return escaped, nil
		case '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return escaped, err
			}
		default:
			return escaped, s.bad("control character in a string")
		}
	}
	return escaped, s.bad("string without an end")
}

func (s *scanner) escape() error {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		s.i++
		for range 4 {
			c := s.peek()
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return s.bad("expected four hex digits")
			}
			s.i++
		}
		return nil
	}
	return s.bad("unknown escape")
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return s.bad("expected a digit")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.bad("expected a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.bad("expected a digit")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return s.bad("expected " + word)
	}
	s.i += len(word)
	return nil
}

// decodeString is the text of a JSON string that has been scanned.
func decodeString(quoted []byte) ([]byte, error) {
	if !bytes.ContainsRune(quoted, '\\') {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, err
	}
	return []byte(text), nil
}
