package gateway

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
)

// heard is what the client has of a stream's answer, as far as another worker
// must know it to go on from there. It is kept beside the relay and never
// parses a whole event: inside a JSON string the quotes of these keys would be
// escaped, so the bytes are keys.
type heard struct {
	// ids are the generated tokens up to the last that brought text. Those after
	// it are held: their text (half a character, or what may become a stop
	// string) is still with the engine, so they are generated again elsewhere.
	ids  []uint32
	held []uint32
	// text is what was said, escaped as in JSON.
	text []byte
	// head is the first event, whose id, model and time the whole stream bears.
	head []byte
	// unnamed is set when an event had text but no token ids.
	unnamed bool
	// parsed says what the engine made of the tokens besides text, "" if nothing.
	parsed string
}

var (
	keyTokenIDs     = []byte(`"token_ids":[`)
	keyAnyIDs       = []byte(`token_ids":[`)
	keyContent      = []byte(`"content":"`)
	keyText         = []byte(`"text":"`)
	keyToolCalls    = []byte(`"tool_calls":[{`)
	keyReasoning    = []byte(`"reasoning_content":"`)
	keyReasoningToo = []byte(`"reasoning":"`)
)

// event takes one event's payload.
func (h *heard) event(e endpoint, payload []byte) {
	if h.head == nil {
		h.head = bytes.Clone(payload)
	}
	text := stringAfter(payload, textKey(e))
	ids, named := tokenIDs(h.held, payload)
	switch {
	case bytes.Contains(payload, keyToolCalls):
		h.parsed = "tool calls"
	case len(stringAfter(payload, keyReasoning)) > 0 || len(stringAfter(payload, keyReasoningToo)) > 0:
		h.parsed = "reasoning"
	}
	h.unnamed = h.unnamed || !named && len(text) > 0
	h.held = ids
	if len(text) > 0 {
		h.say(text)
	}
}

// same takes an event of the same shape as one before.
func (h *heard) same(text, tokens []byte, named bool) {
	if named {
		h.held, named = appendNumbers(h.held, tokens)
	}
	h.unnamed = h.unnamed || !named
	h.say(text)
}

// textKey is what an answer's text comes after.
func textKey(e endpoint) []byte {
	if e == endpointCompletion {
		return keyText
	}
	return keyContent
}

// say books text, escaped as in JSON, and the tokens that led to it.
func (h *heard) say(text []byte) {
	h.text = append(h.text, text...)
	h.ids = append(h.ids, h.held...)
	h.held = h.held[:0]
}

// more books what a continuing worker generated.
func (h *heard) more(ids []uint32, text string) {
	h.unnamed = h.unnamed || len(ids) == 0 && text != ""
	h.held = append(h.held, ids...)
	if text != "" {
		quoted, _ := json.Marshal(text) // a string can always be written
		h.say(quoted[1 : len(quoted)-1])
	}
}

// payloads are the data of events, in order.
func payloads(events []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.SplitSeq(events, []byte{'\n'}) {
			if payload, ok := bytes.CutPrefix(line, []byte("data:")); ok && !yield(bytes.TrimSpace(payload)) {
				return
			}
		}
	}
}

// stringAfter is the inside of the JSON string that key begins, still escaped.
func stringAfter(payload, key []byte) []byte {
	i := bytes.Index(payload, key)
	if i < 0 {
		return nil
	}
	rest := payload[i+len(key):]
	for end := 0; ; end++ {
		n := bytes.IndexByte(rest[end:], '"')
		if n < 0 {
			return nil
		}
		end += n
		escapes := 0
		for end-escapes > 0 && rest[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return rest[:end]
		}
	}
}

// tokenIDs appends the event's generated tokens.
func tokenIDs(ids []uint32, payload []byte) (all []uint32, named bool) {
	i := bytes.Index(payload, keyTokenIDs)
	if i < 0 {
		return ids, false
	}
	rest := payload[i+len(keyTokenIDs):]
	end := bytes.IndexByte(rest, ']')
	if end < 0 {
		return ids, false
	}
	return appendNumbers(ids, rest[:end])
}

// appendNumbers appends what a list of numbers holds; listed says that it is one.
func appendNumbers(ids []uint32, list []byte) (all []uint32, listed bool) {
	for number := range bytes.SplitSeq(list, []byte{','}) {
		id, err := strconv.ParseUint(string(bytes.TrimSpace(number)), 10, 32)
		if err != nil {
			return ids, false
		}
		ids = append(ids, uint32(id))
	}
	return ids, true
}

// appendWithoutIDs appends events with the token ids that only the gateway asked
// for, the prompt's and the answer's, as null: so engines write them where nobody
// asked.
func appendWithoutIDs(dst, events []byte) []byte {
	for {
		i := bytes.Index(events, keyAnyIDs)
		if i < 0 {
			return append(dst, events...)
		}
		i += len(keyAnyIDs)
		end := bytes.IndexByte(events[i:], ']')
		if end < 0 {
			return append(dst, events...)
		}
		dst = append(dst, events[:i-1]...)
		dst = append(dst, "null"...)
		events = events[i+end+1:]
	}
}
