package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// eventsEnd is the length of the whole events at the start of b, which begins
// where an event does: everything up to and including the last blank line. from is where the search may begin,
// because everything before it is known to hold no blank line.
func eventsEnd(b []byte, from int) int {
	for i := len(b); i > from; {
		i = bytes.LastIndexByte(b[:i], '\n')
		switch {
		case i < 0:
			return 0
		case i == 0, b[i-1] == '\n', b[i-1] == '\r' && (i == 1 || b[i-2] == '\n'):
			return i + 1
		}
	}
	return 0
}

// answer is what the gateway learns from an engine's answer while it passes
// through: no more than first token, usage and how it ended.
type answer struct {
	// tokenAt is set by the caller when first turns true.
	first bool
	// chunks counts events that carried content, a stand-in for completion
	// tokens where the client asked for no usage.
	chunks int
	usage  *Usage
	finish string
	done   bool // "[DONE]" was seen
	failed bool // the engine sent an error event
	last   []byte
}

// Usage is the engine's own count of a request's tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	// CachedTokens is how much of the prompt the engine took from its cache;
	// -1 if it did not say.
	CachedTokens int `json:"cached_tokens"`
}

// events takes whole events of a stream, in order. Only the events up to the
// first token, and those that name a usage or a finish reason, are parsed.
func (a *answer) events(b []byte) {
	for payload := range payloads(b) {
		a.event(payload)
	}
}

// event takes one event's payload. plain says that it brought content and
// nothing that the answer did not say before.
func (a *answer) event(payload []byte) (plain bool) {
	switch {
	case string(payload) == "[DONE]":
		a.done = true
		return false
	case bytes.HasPrefix(payload, []byte(`{"error"`)):
		a.failed = true
		return false
	}
	before := a.chunks
	switch {
	case !a.first:
		a.first = hasContent(payload)
		if a.first {
			a.chunks++
		}
	case !bytes.Contains(payload, []byte(`"choices":[]`)):
		a.chunks++
	}
	// Inside a JSON string the quotes would be escaped, so these bytes are keys.
	if valueFollows(payload, `"usage":`, '{') {
		// With continuous usage every event has one: keep, parse at the end.
		a.last = append(a.last[:0], payload...)
		before = a.chunks
	}
	if valueFollows(payload, `"finish_reason":`, '"') {
		a.finish = finishReason(payload)
		before = a.chunks
	}
	return a.chunks > before
}

// end parses what was put off until the stream's end.
func (a *answer) end() {
	if a.last != nil {
		a.usage = usageOf(a.last)
	}
}

// unary takes a whole answer that is not a stream.
func (a *answer) unary(body []byte) {
	a.usage = usageOf(body)
	a.finish = finishReason(body)
	a.done = true
}

// valueFollows reports whether key is in the payload with a value that starts
// with open after optional space.
func valueFollows(payload []byte, key string, open byte) bool {
	for {
		_, rest, ok := bytes.Cut(payload, []byte(key))
		if !ok {
			return false
		}
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) > 0 && rest[0] == open {
			return true
		}
		payload = rest
	}
}

// engineFailed reports whether an event says that the engine itself failed, as
// vLLM's does when its core has died: another engine may do better. An error
// that is the request's own fault would be the same everywhere.
func engineFailed(payload []byte) bool {
	if !bytes.HasPrefix(payload, []byte(`{"error"`)) {
		return false
	}
	var e struct {
		Error struct {
			Code any    `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	if json.Unmarshal(payload, &e) != nil {
		return true
	}
	code, numbered := e.Error.Code.(float64)
	return numbered && code >= 500 || e.Error.Type == "InternalServerError"
}

// errStop ends a scan that has found what it wanted.
var errStop = errors.New("found")

// hasContent reports whether a chunk brings anything that the model generated:
// the chunk that only announces the role does not count as a first token.
func hasContent(payload []byte) bool {
	err := eachChoice(payload, func(key, value []byte) error {
		switch string(key) {
		case "text":
			return stopIf(!empty(value))
		case "delta":
			return eachField(value, func(key, value []byte) error {
				return stopIf(string(key) != "role" && !empty(value))
			})
		}
		return nil
	})
	return errors.Is(err, errStop)
}

func finishReason(payload []byte) (reason string) {
	_ = eachChoice(payload, func(key, value []byte) error {
		if string(key) == "finish_reason" && value[0] == '"' {
			reason = string(value[1 : len(value)-1])
			return errStop
		}
		return nil
	})
	return reason
}

func eachChoice(payload []byte, f func(key, value []byte) error) error {
	return eachField(payload, func(key, value []byte) error {
		if string(key) != "choices" {
			return nil
		}
		return eachElement(value, func(choice []byte) error { return eachField(choice, f) })
	})
}

func stopIf(found bool) error {
	if found {
		return errStop
	}
	return nil
}

func empty(value []byte) bool {
	switch string(value) {
	case `""`, "null", "[]", "{}":
		return true
	}
	return false
}

// usageOf is the top-level usage of an answer or chunk, nil if there is none.
func usageOf(payload []byte) *Usage {
	var raw []byte
	err := eachField(payload, func(key, value []byte) error {
		if string(key) == "usage" {
			raw = value
		}
		return nil
	})
	if err != nil || raw == nil || raw[0] != '{' {
		return nil
	}
	u := &Usage{CachedTokens: -1}
	err = eachField(raw, func(key, value []byte) (err error) {
		switch string(key) {
		case "prompt_tokens":
			u.PromptTokens, err = countOf(value, 0)
		case "completion_tokens":
			u.CompletionTokens, err = countOf(value, 0)
		case "prompt_tokens_details":
			if value[0] != '{' {
				return nil
			}
			err = eachField(value, func(key, value []byte) (err error) {
				if string(key) == "cached_tokens" {
					u.CachedTokens, err = countOf(value, -1)
				}
				return err
			})
		}
		return err
	})
	if err != nil {
		return nil
	}
	return u
}

// countOf is a whole number, or absent if it is null.
func countOf(value []byte, absent int) (int, error) {
	if string(value) == "null" {
		return absent, nil
	}
	return strconv.Atoi(string(value))
}
