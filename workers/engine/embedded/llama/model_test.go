package llama

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

func edit(t *testing.T, dir, file string, change func(map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := make(map[string]any)
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	change(v)
	if raw, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheTinyModelDependsOnlyOnItsSeed(t *testing.T) {
	prints := make(map[string]uint64)
	for _, seed := range []uint64{1, 2} {
		a, b := t.TempDir(), t.TempDir()
		for _, dir := range []string{a, b} {
			if err := WriteTiny(dir, seed); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
			x, err1 := os.ReadFile(filepath.Join(a, name))
			y, err2 := os.ReadFile(filepath.Join(b, name))
			if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
				t.Errorf("seed %d: %s differs between two runs (%v, %v)", seed, name, err1, err2)
			}
		}
		m, err := Open(a)
		if err != nil {
			t.Fatal(err)
		}
		if other, seen := prints[m.Fingerprint()]; seen {
			t.Errorf("seeds %d and %d have one fingerprint", seed, other)
		}
		prints[m.Fingerprint()] = seed
	}
}

// A changed token far back must change what comes next, nearly always: that is
// what makes a wrong KV block visible.
func TestTheTinyModelIsSharp(t *testing.T) {
	m, rng := tinyModel(t), trial.Rand(t)
	changed, margins, seen := 0, 0, make(map[int]bool)
	const trials = 12
	for range trials {
		tokens := make([]uint32, 48)
		for i := range tokens {
			tokens[i] = rng.Uint32N(256)
		}
		a, _ := alone(t, m, 16, tokens)
		tokens[rng.IntN(24)] ^= 1
		b, _ := alone(t, m, 16, tokens)
		greedy := func(logits [][]float32) (ids []int) {
			for _, l := range logits[24:] {
				ids = append(ids, argmax(l))
			}
			return ids
		}
		if !slices.Equal(greedy(a), greedy(b)) {
			changed++
		}
		sorted := slices.Sorted(slices.Values(a[len(a)-1]))
		if sorted[len(sorted)-1]-sorted[len(sorted)-2] > 0.05 {
			margins++
		}
		seen[argmax(a[len(a)-1])] = true
	}
	t.Logf("of %d: %d changed, %d with a clear winner, %d different winners", trials, changed, margins, len(seen))
	if changed < trials*8/10 || margins < trials*8/10 || len(seen) < trials/2 {
		t.Errorf("of %d contexts: %d changed the greedy tokens, %d had a clear winner, %d different winners", trials, changed, margins, len(seen))
	}
}

func TestShardsAreOneModel(t *testing.T) {
	dir := t.TempDir()
	if err := WriteTiny(dir, 1); err != nil {
		t.Fatal(err)
	}
	whole, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(raw)
	var header map[string]json.RawMessage
	if err := json.Unmarshal(raw[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	shards, index := [2]map[string]json.RawMessage{{}, {}}, make(map[string]string)
	for i, name := range slices.Sorted(maps.Keys(header)) {
		shards[i%2][name] = header[name]
		index[name] = []string{"a.safetensors", "b.safetensors"}[i%2]
	}
	for i, shard := range shards {
		head, _ := json.Marshal(shard)
		file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".safetensors"), append(file, raw[8+n:]...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	head, _ := json.Marshal(map[string]any{"weight_map": index})
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), head, 0o600); err != nil {
		t.Fatal(err)
	}
	sharded, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if sharded.Fingerprint() != whole.Fingerprint() {
		t.Error("two shards and one file have different fingerprints")
	}
}

func TestUnsupportedModelsAreNamed(t *testing.T) {
	refuse := func(want, file string, change func(map[string]any)) {
		t.Helper()
		dir := t.TempDir()
		if err := WriteTiny(dir, 1); err != nil {
			t.Fatal(err)
		}
		edit(t, dir, file, change)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %q", err, want)
		}
	}
	set := func(key string, v any) func(map[string]any) { return func(c map[string]any) { c[key] = v } }
	refuse(`"gemma3"`, "config.json", set("model_type", "gemma3"))
	refuse(`"gelu"`, "config.json", set("hidden_act", "gelu"))
	refuse("partial_rotary_factor", "config.json", set("partial_rotary_factor", 0.5))
	refuse(`"longrope"`, "config.json", set("rope_scaling", map[string]any{"rope_type": "longrope", "factor": 2}))
	refuse(`"su"`, "config.json", set("rope_scaling", map[string]any{"type": "su", "factor": 2}))
	refuse("layers", "config.json", set("num_hidden_layers", 0))
	refuse("blk.3", "config.json", set("num_hidden_layers", 4))
	refuse("shape", "config.json", set("intermediate_size", 300))
	refuse("divide", "config.json", set("num_key_value_heads", 3))
	refuse("epsilon", "config.json", set("rms_norm_eps", -1))
	dir := t.TempDir()
	if err := WriteTiny(dir, 1); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(dir, "model.safetensors")
	raw, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(weights, bytes.Replace(raw, []byte(`"BF16"`), []byte(`"Q8_0"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "safetensors Q8_0") {
		t.Errorf("error %v, want one that names the type Q8_0", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent.gguf")); err == nil {
		t.Error("an absent file opens")
	}
}

func TestHuggingFaceSettings(t *testing.T) {
	dir := t.TempDir()
	if err := WriteTiny(dir, 1); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "config.json", func(c map[string]any) {
		c["eos_token_id"], c["sliding_window"] = []int{1, 2}, 4096
		c["rope_parameters"] = map[string]any{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
			"high_freq_factor": 4.0, "original_max_position_embeddings": 1024}
	})
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := m.Config()
	if !slices.Equal(c.EOS, []uint32{1, 2}) || c.MaxContext != 4096 || c.Rope.Theta != 5e5 || c.Rope.Scaling != "llama3" || c.Rope.OriginalContext != 1024 {
		t.Errorf("%+v", c)
	}
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"eos_token_id": 257}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(dir); err != nil || !slices.Equal(m.Config().EOS, []uint32{257}) {
		t.Errorf("generation_config.json: %v, %v", m.Config().EOS, err)
	}
}

func TestTheRealModelOpens(t *testing.T) {
	m := demoModel(t)
	c := m.Config()
	if c.Layers != 30 || c.Hidden != 576 || c.Heads != 9 || c.KVHeads != 3 || c.HeadDim != 64 || c.FFN != 1536 || c.Vocab != 49152 ||
		c.MaxContext != 8192 || c.Rope.Theta != 1e5 || !slices.Equal(c.EOS, []uint32{2}) || m.BlockBytes(16) != 30*2*3*64*16*2 {
		t.Errorf("%+v, blocks of %d", c, m.BlockBytes(16))
	}
	if m.Fingerprint() != demoModel(t).Fingerprint() {
		t.Error("the fingerprint changes from one load to the next")
	}
}

func FuzzSafetensors(f *testing.F) {
	file := func(header string, body int) []byte {
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), make([]byte, body)...)
	}
	f.Add(file(`{"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}`, 12))
	f.Add(file(`{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"w":{"dtype":"Q8_0","shape":[1,32],"data_offsets":[0,34]}}`, 34))
	f.Add(file(`{"w":{"dtype":"F32","shape":[],"data_offsets":[18446744073709551615,3]}}`, 4))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		all := make(map[string]tensor)
		if parseSafetensors(data, all) != nil {
			return
		}
		for name, x := range all {
			if _, known := formats[x.kind]; !known {
				continue
			}
			size := uint64(len(x.data)) / 2
			if x.kind == "F32" {
				size /= 2
			}
			want := uint64(1)
			for _, d := range x.dims {
				want *= d
			}
			if size != want {
				t.Fatalf("tensor %q of %v has %d bytes", name, x.dims, len(x.data))
			}
		}
	})
}

func TestHostileSafetensorsAreRefused(t *testing.T) {
	for _, header := range []string{
		`{`, `[]`, `{"w":7}`, `{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`,
		`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, `{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`,
		`{"w":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, `{"w":{"dtype":"F32","shape":[9223372036854775808,8],"data_offsets":[0,0]}}`,
	} {
		data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"1234"...)
		if err := parseSafetensors(data, make(map[string]tensor)); err == nil {
			t.Errorf("%s was accepted", header)
		}
	}
	if err := parseSafetensors(binary.LittleEndian.AppendUint64(nil, 1<<63), nil); err == nil {
		t.Error("a header of 2^63 bytes was accepted")
	}
}

func TestAModelWithForeignWeightsNamesTheType(t *testing.T) {
	dir := t.TempDir()
	if err := WriteTiny(dir, 1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.safetensors")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(raw, []byte(`"BF16"`), []byte(`"F8_X"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "F8_X") {
		t.Errorf("error %v, want one that names F8_X", err)
	}
}

func TestClosedRunnersLeaveNothing(t *testing.T) {
	withProcs(t, 4)
	m := tinyModel(t)
	for range 20 {
		r := NewRunner(m, 16, 4)
		if _, err := r.Step(context.Background(), []Sequence{{Tokens: []uint32{1}, Pages: newPages(m, 16, 1)}}); err != nil {
			t.Fatal(err)
		}
		r.Close()
	} // goleak, in TestMain, finds members that stayed
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
