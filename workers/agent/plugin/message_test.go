package plugin

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMessagesAreChecked(t *testing.T) {
	hash := `"AAAAAAAAAAAAAAAAAAAAAA=="`
	for line, want := range map[string]string{
		`{`:              "not a message",
		`{"op":"dance"}`: "different versions",
		`{"op":"hello"}`: "version 0 of the protocol",
		`{"op":"hello","version":1,"role":"king"}`:   "want scheduler or worker",
		`{"op":"hello","version":1,"role":"worker"}`: "says its model",
		`{"op":"hello","version":1,"role":"worker","model":"m","layout":{"fingerprint":"f","layers":1,"block_size":16}}`: "0 is no size",
		`{"op":"stage","id":"a","root":"AAAA"}`:                                       "a root of 3",
		`{"op":"stage","root":` + hash + `}`:                                          "no id",
		`{"op":"stage","id":"a","root":` + hash + `,"hashes":` + hash + `,"first":2}`: "first is 2 of 1",
		`{"op":"reserve"}`: "count is 0",
		`{"op":"release"}`: "no id",
		`{"op":"commit","slots":[1],"hashes":` + hash + `}`: "want 16 of each",
	} {
		if _, err := parse([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	for _, line := range []string{
		`{"op":"hello","version":1,"role":"scheduler"}`,
		`{"op":"stage","id":"a","root":` + hash + `,"hashes":` + hash + `,"first":1}`,
		`{"op":"commit","slots":[1],"hashes":` + hash + `,"parents":` + hash + `}`,
		`{"op":"abort"}`,
	} {
		if _, err := parse([]byte(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTheGatewaysIDIsFoundInTheEngines(t *testing.T) {
	for engine, want := range map[string]string{
		"cmpl-req-7-0-b1347b9f":        "req-7",
		"cmpl-6f1c-12-deadbeef":        "6f1c",
		"chatcmpl-req-7-0-b1347b9f":    "req-7-0",
		"chatcmpl-0a1b2c3d4e-00000000": "0a1b2c3d4e",
		"cmpl-b1347b9f":                "",
		"embd-req-7-b1347b9f":          "",
		"":                             "",
	} {
		if got := gatewayID(engine); got != want {
			t.Errorf("%s: got %q, want %q", engine, got, want)
		}
	}
}

// What parse lets through, the session takes apart without further checks.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"op":"stage","id":"a","root":"AAAAAAAAAAAAAAAAAAAAAA==","hashes":"AAAAAAAAAAAAAAAAAAAAAA==","first":1}`))
	f.Add([]byte(`{"op":"commit","slots":[1],"hashes":"AAAAAAAAAAAAAAAAAAAAAA==","parents":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parse(line)
		if err != nil {
			return
		}
		hashes := hashesOf(r.Hashes)
		switch r.Op {
		case "stage":
			if len(r.Root) != hashBytes || r.First < 0 || r.First > len(hashes) {
				t.Fatalf("%s was let through", line)
			}
		case "commit":
			if len(hashes) != len(r.Slots) || len(hashesOf(r.Parents)) != len(r.Slots) {
				t.Fatalf("%s was let through", line)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}
