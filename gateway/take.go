package gateway

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// take turns a worker's events into the client's, and books what they say. A
// stream that could go on elsewhere stops at an event that is an error or none.
func (x *exchange) take(p *placement, events []byte) (own []byte, failed error) {
	// A decode worker's first events may say that the KV is not there.
	heed := x.carriable || p.split != nil && !x.sent && !p.split.across.Load()
	if p.split != nil && bytes.Contains(events, keyDetails) {
		events = p.split.truthful(nil, events)
	}
	x.edited = x.edited[:0]
	if x.carry != nil {
		x.edited, failed = x.continued(x.edited, events)
		x.answer.events(x.edited)
		return x.edited, failed
	}
	rest := events
	for len(rest) > 0 && failed == nil {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		line := rest[:end]
		payload, data := bytes.CutPrefix(line, []byte("data:"))
		if data {
			failed = x.event(line, bytes.TrimSpace(payload), heed)
		} else if x.named {
			x.edited = append(x.edited, line...)
		}
		if failed == nil {
			rest = rest[end:]
		}
	}
	if x.named {
		return x.edited, failed
	}
	return events[:len(events)-len(rest)], failed
}

// event books one event's payload, and appends its line to what the client is
// sent where that differs. heed says that what shows a failure is one.
func (x *exchange) event(line, payload []byte, heed bool) error {
	if text, tokens, ok := x.shape.match(payload); ok {
		x.answer.chunks++
		if x.carriable {
			x.heard.same(text, tokens, x.shape.tokens)
		}
		if x.named && x.shape.tokens {
			x.edited = append(x.edited, line[:bytes.IndexByte(line, '{')]...)
			x.edited = x.shape.appendUnnamed(x.edited, text)
			x.edited = append(x.edited, line[bytes.LastIndexByte(line, '}')+1:]...)
		} else if x.named {
			x.edited = append(x.edited, line...)
		}
		return nil
	}
	if heed {
		if err := x.listen(payload); err != nil {
			return err
		}
	}
	if x.answer.event(payload) {
		x.shape.learn(payload, textKey(x.endpoint))
	}
	if x.named {
		x.edited = appendWithoutIDs(x.edited, line)
	}
	return nil
}

// listen books an event that does not show that the engine failed.
func (x *exchange) listen(payload []byte) error {
	switch {
	case string(payload) == "[DONE]":
	case len(payload) < 2 || payload[0] != '{' || payload[len(payload)-1] != '}' || !utf8.Valid(payload):
		return errGarbage
	case engineFailed(payload):
		return errors.New(errorMessage(payload))
	default:
		x.heard.event(x.endpoint, payload)
	}
	return nil
}
