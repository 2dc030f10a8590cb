package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
)

// member is one of a JSON object's members, its value as it was written.
type jsonMember struct{ key, value string }

func members(t *testing.T, body []byte, without ...string) (all []jsonMember) {
	t.Helper()
	err := eachField(body, func(key, value []byte) error {
		for _, w := range without {
			if w == string(key) {
				return nil
			}
		}
		all = append(all, jsonMember{string(key), string(value)})
		return nil
	})
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return all
}

// FuzzEdits: what an engine is sent is JSON, has the fields that the gateway puts
// in, once, and differs from what the client sent in nothing else.
func FuzzEdits(f *testing.F) {
	for _, seed := range []string{
		chatBody, streamBody, secretBody, `{"model":"m","prompt":"\ud83d\ude00","cache_salt":"x"}`, ` { "cache_salt" : null , "model" : "m", "prompt":[1,2] } `,
		`{"cache_\u0073alt":"x","model":"m","prompt":"a","\u006d":{"cache_salt":"y"}}`, `{"model":"m","prompt":"a","cache_salt":"x"}`,
	} {
		f.Add([]byte(seed), true, true)
		f.Add([]byte(seed), false, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, named, salted bool) {
		q, err := parseInference(endpointCompletion, bytes.Clone(body))
		if err != nil {
			if q, err = parseInference(endpointChat, bytes.Clone(body)); err != nil {
				return
			}
		}
		named = named && !q.fields.has(fieldReturnTokenIDs) // as the gateway asks
		if q.salted = salted; salted {
			q.salt = "00112233445566778899aabbccddeeff"
		}
		sent, err := q.edited(named)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if !json.Valid(sent) {
			t.Fatalf("%q became %q", body, sent)
		}
		var ours []string
		if salted {
			ours = append(ours, "cache_salt")
		}
		if named {
			ours = append(ours, "return_token_ids")
		}
		was, is := members(t, body, ours...), members(t, sent, ours...)
		if len(was) != len(is) {
			t.Fatalf("%q became %q", body, sent)
		}
		for i := range was {
			if was[i] != is[i] {
				t.Fatalf("%q became %q: %v, not %v", body, sent, is[i], was[i])
			}
		}
		added := map[string][]string{}
		for _, m := range members(t, sent) {
			added[m.key] = append(added[m.key], m.value)
		}
		if v := added["cache_salt"]; salted && (len(v) != 1 || v[0] != `"00112233445566778899aabbccddeeff"`) {
			t.Fatalf("%q became %q: its salt is %q", body, sent, v)
		}
		if v := added["return_token_ids"]; named && (v[0] != "true" || len(v) > 1 && !q.nulls.has(fieldReturnTokenIDs)) {
			t.Fatalf("%q became %q: return_token_ids is %q", body, sent, v)
		}
	})
}
