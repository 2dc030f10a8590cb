package trace

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

const good = `{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [7, 8, 9]}

{"timestamp": 27.5, "input_length": 1024, "output_length": 1, "hash_ids": [7, 8], "session_id": "s"}
`

func TestRead(t *testing.T) {
	got, err := Read(strings.NewReader(good), 512)
	if err != nil {
		t.Fatal(err)
	}
	want := []Request{
		{Input: 1100, Output: 5, Blocks: []uint64{7, 8, 9}},
		{At: 27500 * time.Microsecond, Input: 1024, Output: 1, Blocks: []uint64{7, 8}, Session: "s"},
	}
	if !reflect.DeepEqual(got.Requests, want) {
		t.Errorf("%+v", got.Requests)
	}
	// Of the second prompt's two blocks one can be spared: the last token is always
	// computed.
	if c := got.Ceiling(); c != 512.0/2124 {
		t.Errorf("ceiling %v", c)
	}
	if s := got.Scale(2); s.Requests[1].At != 13750*time.Microsecond || got.Requests[1].At != 27500*time.Microsecond {
		t.Errorf("at twice the rate the second arrives at %v, and the trace itself has %v", s.Requests[1].At, got.Requests[1].At)
	}
}

// TestErrorsNameTheLine and what was expected there.
func TestErrorsNameTheLine(t *testing.T) {
	f := func(second, want string) {
		t.Helper()
		_, err := Read(strings.NewReader(`{"timestamp": 5, "input_length": 1, "output_length": 1, "hash_ids": [1]}`+"\n"+second), 512)
		if err == nil || !strings.Contains(err.Error(), "line 2: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want line 2 and %q", second, err, want)
		}
	}
	f(`{"timestamp": 4, "input_length": 1, "output_length": 1, "hash_ids": [1]}`, "before the one before it")
	f(`{"timestamp": 5, "input_length": 513, "output_length": 1, "hash_ids": [1]}`, "want 2; is the block size right?")
	f(`{"timestamp": 5, "input_length": 0, "output_length": 1, "hash_ids": []}`, "at least 1 of each")
	f(`{"timestamp": 5, "input_length": 1, "output_length": 0, "hash_ids": [1]}`, "at least 1 of each")
	f(`{"input_length": 1, "output_length": 1, "hash_ids": [1]}`, "no timestamp")
	f(`{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": [1]}`, "timestamp -1")
	f(`{"timestamp": 5, "input_length": 1, "output_length": 1, "hash_ids": [-1]}`, "hash_ids")
	f(`{"timestamp": 5, "input_length": 1, "output_length": 1, "hash_ids": [1], "model": "x"}`, "model")
	f(`{"timestamp": 5, "input_length": 1, "output_length": 1, "hash_ids": [1]} {}`, "more than one")
	f(`nonsense`, "invalid character")
	if _, err := Read(strings.NewReader(""), 512); err == nil {
		t.Error("an empty file is a trace")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(good), 512)
	f.Add([]byte(`{"timestamp": 1e300, "input_length": 9223372036854775807, "output_length": 1, "hash_ids": []}`), 1)
	f.Fuzz(func(t *testing.T, b []byte, blockSize int) {
		tr, err := Read(bytes.NewReader(b), blockSize)
		if err != nil {
			return
		}
		if err := tr.Check(); err != nil {
			t.Fatalf("what was read is no trace: %v", err)
		}
		var out bytes.Buffer
		if err := tr.Write(&out); err != nil {
			t.Fatal(err)
		}
		back, err := Read(&out, blockSize)
		if err != nil || len(back.Requests) != len(tr.Requests) {
			t.Fatalf("what was written can't be read: %v", err)
		}
		for i := range back.Requests {
			a, b := back.Requests[i], tr.Requests[i]
			if diff := a.At - b.At; diff > time.Microsecond || diff < -time.Microsecond {
				t.Fatalf("request %d came back at %v, was at %v", i, a.At, b.At)
			}
			a.At, b.At = 0, 0
			if len(a.Blocks)+len(b.Blocks) > 0 && !reflect.DeepEqual(a, b) {
				t.Fatalf("request %d came back as %+v, was %+v", i, a, b)
			}
		}
	})
}

// TestSyntheticWorkloads are traces, the same for the same seed, at the rate asked
// for, and with as much to reuse as their kind promises.
func TestSyntheticWorkloads(t *testing.T) {
	most := map[string]float64{"long-tail": 0.5, "rag": 0.5, "multi-round-qa": 0.9, "shared-system-prompts": 0.99, "agents": 0.99}
	least := map[string]float64{"long-tail": 0.1, "rag": 0.05, "multi-round-qa": 0.5, "shared-system-prompts": 0.8, "agents": 0.8}
	for _, kind := range Kinds() {
		s := Synthetic{Kind: kind, Requests: 3000, PerSecond: 10, BlockSize: 64, Seed: 3}
		a, err := Synthesize(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(); err != nil || len(a.Requests) != 3000 {
			t.Errorf("%s: %d requests, %v", kind, len(a.Requests), err)
		}
		if b, _ := Synthesize(s); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: equal seeds, different traces", kind)
		}
		s.Seed++
		if c, _ := Synthesize(s); reflect.DeepEqual(a.Requests, c.Requests) || a.SHA256 == c.SHA256 {
			t.Errorf("%s: different seeds, equal traces", kind)
		}
		if c := a.Ceiling(); c < least[kind] || c > most[kind] {
			t.Errorf("%s: an infinite cache would have %.3f, want %v to %v", kind, c, least[kind], most[kind])
		}
		if rate := 3000 / a.Duration().Seconds(); rate < 3 || rate > 15 {
			t.Errorf("%s: %.1f requests a second, want about 10", kind, rate)
		}
	}
	if _, err := Synthesize(Synthetic{Kind: "chat", Requests: 1, PerSecond: 1, BlockSize: 1}); err == nil || !strings.Contains(err.Error(), "agents") {
		t.Errorf("an unknown kind: %v", err)
	}
}
