package tokenizer

import (
	"bytes"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// normalizer is what happens to text before it is split: rewriting steps, then,
// for SentencePiece, spaces marked and one put in front.
type normalizer struct {
	steps  []func(dst []byte, s string) []byte
	nfc    bool // the only step is NFC, which most text passes unchanged
	prefix prefixRule
}

// prefixRule says when text gets a space in front: by the normalizer, so that
// added tokens of the normalized text see it, or by the pre-tokenizer, in front
// of every text between added tokens.
type prefixRule uint8

const (
	prefixNever      prefixRule = iota
	prefixNormalizer            // Prepend: even before a space
	prefixEach                  // Metaspace, always, and ByteLevel: unless there is one
	prefixFirst                 // Metaspace, first: the same, only where the text begins
)

// normalize returns s as the normalizer makes it, valid until the next call.
func (e *encoder) normalize(s string) string {
	n := &e.t.normalizer
	if n.nfc {
		if at := nextSuspect(e.t.suspects, s, 0); at < len(s) {
			e.buf = appendNFC(e.t.suspects, e.buf[:0], s, at)
			s = text(e.buf)
		}
	} else {
		for _, step := range n.steps {
			s = string(step(nil, s))
		}
	}
	if n.prefix == prefixNormalizer && s != "" {
		return e.prefixed(s)
	}
	return s
}

// prefix puts the pre-tokenizer's space in front of s, if one is due.
func (e *encoder) prefix(s string, first bool) string {
	rule := e.t.normalizer.prefix
	if rule != prefixEach && !(rule == prefixFirst && first) || s[0] == ' ' || e.t.spm && strings.HasPrefix(s, spaceMark) {
		return s
	}
	return e.prefixed(s)
}

func (e *encoder) prefixed(s string) string {
	e.piece = append(append(e.piece[:0], ' '), s...)
	return text(e.piece)
}

func formStep(f norm.Form) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte { return appendForm(f, dst, s) }
}

func replaceStep(from, to string) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte {
		return append(dst, bytes.ReplaceAll([]byte(s), []byte(from), []byte(to))...)
	}
}

func prependStep(prefix string) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte {
		if s != "" {
			dst = append(dst, prefix...)
		}
		return append(dst, s...)
	}
}
