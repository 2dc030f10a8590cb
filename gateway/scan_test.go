package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScan holds the scanner to encoding/json: it accepts the same documents
// and finds the same members with the same bytes.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, ` { "a" : [1, -0.5e+3, true,null,{"b":"\u00e9\"\\"}] } `,
		`{"a":1,"a":2}`, `{"mod\u0065l":"x"}`, `[]`, `{"a":01}`, `{"a":}`, `{"a":1,}`, "{\"a\":\"\x01\"}", `{"a":"\x"}`, `{"a":1}x`,
		`{"a":"\ud800"}`, "{\"a\":\"\xff\"}", strings.Repeat("[", 300), `{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var got []string
		err := eachField(doc, func(key, value []byte) error {
			got = append(got, string(key), string(value))
			return nil
		})
		want, wantErr := membersByStdlib(doc)
		if depthOf(doc) > maxDepth {
			if err == nil {
				t.Fatalf("accepted nesting deeper than %d: %q", maxDepth, doc)
			}
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: scanner says %v, encoding/json says %v", doc, err, wantErr)
		}
		// Keys that are not UTF-8 come out of encoding/json changed; the gateway
		// refuses such bodies before it scans them.
		if err == nil && utf8.Valid(doc) && strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			t.Fatalf("%q:\n got %q\nwant %q", doc, got, want)
		}
	})
}

// membersByStdlib lists the document's keys and raw values with encoding/json.
func membersByStdlib(doc []byte) ([]string, error) {
	if !json.Valid(doc) {
		return nil, &syntaxError{why: "invalid"}
	}
	if trimmed := bytes.TrimLeft(doc, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, &syntaxError{why: "not an object"}
	}
	var members []string
	d := json.NewDecoder(bytes.NewReader(doc))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		members = append(members, key.(string), string(raw))
	}
	return members, nil
}

func depthOf(doc []byte) int {
	depth, deepest, inString := 0, 0, false
	for i := 0; i < len(doc); i++ {
		switch c := doc[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

func TestScannerReportsWhereADocumentBreaks(t *testing.T) {
	for doc, want := range map[string]string{
		`{"a" 1}`:    "expected ':' at byte 5",
		`{"a":1 "b"`: "expected ',' or '}' at byte 7",
		`{"a":tru}`:  "expected true at byte 5",
		`{"a":"x`:    "string without an end at byte 7",
		``:           "expected an object at byte 0",
	} {
		err := eachField([]byte(doc), func(_, _ []byte) error { return nil })
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	doc := []byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 8<<10) + `"}]}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := eachField(doc, func(_, _ []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
