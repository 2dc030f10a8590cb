package events

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// fixture reads a payload written by another MessagePack library.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func decode(t testing.TB, payload []byte) Batch {
	t.Helper()
	var b Batch
	if err := decodeBatch(&b, payload); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeEveryFormOfEvent(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		if got := show(decode(t, fixture(t, name))); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	f("array_stored_0.23", "t=1.5 rank=0; stored [11 12] after root, tokens 8 by 4, GPU, group 0")
	f("array_short_old", "t=1.5 rank=0; stored [11] after 7, tokens 4 by 4, group 0")
	f("array_removed_cleared", "t=2 rank=0; removed [11 12], CPU, group 0; cleared")
	f("map_salt_lora", "t=3 rank=1; stored [18446744073709551615 5] after root, tokens 8 by 4, GPU, group 0, lora ad, salt tenant")
	f("map_signed_hash_sglang_salt", "t=4 rank=0; stored [17624573569607431291] after root, tokens 4 by 4, CPU_PINNED, group 0, salt tenant")
	f("map_image", "t=5 rank=0; stored [1 2] after root, tokens 8 by 4, GPU, group 0, odd from 1")
	f("map_salt_pair", "t=5 rank=0; stored [1 2] after root, tokens 8 by 4, GPU, group 0, salt tenant")
	f("map_window", "t=6 rank=0; stored [2] after root, tokens 8 by 4, GPU, group 1, window, rootless")
	f("map_placeholder", "t=6 rank=0; stored [2] after root, tokens 0 by 0, CPU, group 0")
	f("map_unknown_type_and_fields", "t=6 rank=0; unknown; cleared")
	f("map_eagle_pairs", "t=6 rank=0; stored [2] after root, tokens 4 by 4, GPU, group 0")

	b := decode(t, fixture(t, "map_bytes_hash"))
	digest := make([]byte, 32)
	for i := range digest {
		digest[i] = byte(i)
	}
	if got := b.Events[0].Hashes[0]; got != BytesHash(digest) {
		t.Errorf("hash of 32 bytes became %x", got)
	}
	if got := decode(t, fixture(t, "map_eagle_pairs")).Events[0].Tokens; !slices.Equal(got, []uint32{1, 2, 3, 4}) {
		t.Errorf("pairs of tokens became %d", got)
	}
}

// show writes a batch in one line.
func show(b Batch) string {
	var w strings.Builder
	fmt.Fprintf(&w, "t=%v rank=%d", b.Time, b.Rank)
	for _, e := range b.Events {
		w.WriteString("; ")
		if e.unknown {
			w.WriteString("unknown")
			continue
		}
		w.WriteString(e.Kind.String())
		if e.Kind == kv.Cleared {
			continue
		}
		fmt.Fprintf(&w, " %v", ints(e.Hashes))
		if e.Kind == kv.Stored {
			after := "root"
			if e.Parent != nil {
				after = fmt.Sprint(uint64(*e.Parent))
			}
			fmt.Fprintf(&w, " after %s, tokens %d by %d", after, len(e.Tokens), e.BlockSize)
		}
		for _, f := range []struct {
			show bool
			text string
		}{
			{e.Medium != "", e.Medium},
			{true, fmt.Sprintf("group %d", e.Group)},
			{e.LoRA != "", "lora " + e.LoRA},
			{e.Salt != "", "salt " + e.Salt},
			{e.odd < len(e.Hashes), fmt.Sprintf("odd from %d", e.odd)},
			{e.window, "window"},
			{e.rootless, "rootless"},
		} {
			if f.show {
				w.WriteString(", " + f.text)
			}
		}
	}
	return w.String()
}

func ints(hs []EngineHash) (vs []uint64) {
	for _, h := range hs {
		vs = append(vs, uint64(h))
	}
	return vs
}

func TestDecodeReadsWhatEncodeWrites(t *testing.T) {
	parent := IntHash(9)
	batch := Batch{Time: 12.25, Rank: 2, Events: []Event{
		{Kind: kv.Stored, Hashes: []EngineHash{IntHash(1), IntHash(1 << 63)}, Tokens: []uint32{0, 127, 128, 65535, 65536, 1 << 31, 7, 8}, BlockSize: 4, LoRA: "ad", Salt: "tenant"},
		{Kind: kv.Stored, Hashes: []EngineHash{IntHash(3)}, Parent: &parent, Tokens: []uint32{1, 2, 3, 4}, BlockSize: 4, Medium: MediumCPU, Group: 1},
		{Kind: kv.Removed, Hashes: []EngineHash{IntHash(3)}, Medium: MediumCPU, Group: 1},
		{Kind: kv.Cleared},
	}}
	var buf bytes.Buffer
	if err := appendBatch(&buf, batch); err != nil {
		t.Fatal(err)
	}
	got := decode(t, buf.Bytes())
	batch.Events[0].Medium = MediumGPU // what is sent for none
	for i := range batch.Events {
		batch.Events[i].odd = len(batch.Events[i].Hashes)
	}
	if show(got) != show(batch) {
		t.Errorf("\n got %s\nwant %s", show(got), show(batch))
	}
	if fmt.Sprint(got.Events[0].Tokens) != fmt.Sprint(batch.Events[0].Tokens) {
		t.Errorf("tokens became %v", got.Events[0].Tokens)
	}
}

// Lengths and nesting come from the wire: a few bytes must neither allocate much
// nor recurse deeply.
func TestDecodeRefusesNonsense(t *testing.T) {
	deep := append([]byte{0x93, 0x01, 0x91, 0x81, 0xA1, 'x'}, bytes.Repeat([]byte{0x91}, 1<<20)...)
	f := func(name string, payload []byte) {
		t.Helper()
		var b Batch
		if err := decodeBatch(&b, payload); err == nil {
			t.Errorf("%s was accepted: %s", name, show(b))
		}
	}
	f("nothing", nil)
	f("a number", []byte{0x01})
	f("an empty batch", []byte{0x90})
	f("2^32 events in 7 bytes", []byte{0x92, 0x01, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF})
	f("a million nested arrays", deep)
	f("an event without a type", []byte{0x92, 0x01, 0x91, 0x80})
	f("an event that is a number", []byte{0x92, 0x01, 0x91, 0x01})
	f("bytes behind the batch", append(fixture(t, "array_short_old"), 0xC0))
	whole := fixture(t, "map_salt_lora")
	for n := range whole {
		f(fmt.Sprintf("%d of %d bytes", n, len(whole)), whole[:n])
	}
}

// recorded reads frames of a real engine from the shared data.
func recorded(t *testing.T, path string) (frames []recordedFrame) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", path))
	if err != nil {
		t.Skipf("recorded frames of a real engine are absent (%v): decoding is tested on fixtures only", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recordedFrame
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.payload, err = hex.DecodeString(r.Hex[len(r.Hex)-1]); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, r)
	}
	if len(frames) == 0 {
		t.Fatalf("%s holds no frame", path)
	}
	return frames
}

type recordedFrame struct {
	Request, Config, Label string
	Hex                    []string `json:"frames_hex"`
	payload                []byte
}

func TestDecodeRecordedFrames(t *testing.T) {
	for _, path := range []string{"vllm-cpu/frames.jsonl", "counterparts/sglang-frames.jsonl"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			for _, r := range recorded(t, path) {
				b := decode(t, r.payload)
				// A general MessagePack library must see as many events, of the same types.
				var generic []any
				if err := msgpack.Unmarshal(r.payload, &generic); err != nil {
					t.Fatal(err)
				}
				events := generic[1].([]any)
				if len(events) != len(b.Events) {
					t.Fatalf("%s%s: %d events, want %d", r.Request, r.Label, len(b.Events), len(events))
				}
				for i, e := range events {
					fields := e.(map[string]any)
					kind, known := kindOf([]byte(fields["type"].(string)))
					if got := b.Events[i]; got.Kind != kind || !known || got.unknown {
						t.Errorf("%s%s: event %d is %v", r.Request, r.Label, i, got.Kind)
					}
					if hashes, ok := fields["block_hashes"].([]any); ok && len(hashes) != len(b.Events[i].Hashes) {
						t.Errorf("%s%s: event %d has %d hashes, want %d", r.Request, r.Label, i, len(b.Events[i].Hashes), len(hashes))
					}
				}
			}
		})
	}
}

func FuzzDecodeBatch(f *testing.F) {
	names, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(names) == 0 {
		f.Fatal("no fixtures")
	}
	for _, name := range names {
		f.Add(fixture(f, strings.TrimSuffix(filepath.Base(name), ".hex")))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var b Batch
		if decodeBatch(&b, payload) != nil {
			return
		}
		// What is accepted must leave the translator's books balanced. (One that
		// gives a block two names, as no engine does, may store it twice.)
		var stats ReaderStats
		tr := newTranslator("m", 0, false, &stats)
		for i := range b.Events {
			tr.apply(nil, &b.Events[i])
		}
		if want := occupied(tr); want != tr.occupied {
			t.Fatalf("the names add up to %v blocks, the translator says %v", want, tr.occupied)
		}
	})
}

// occupied counts the resolved blocks in each tier the slow way.
func occupied(tr *translator) (n [kv.NumMarks]int) {
	tr.names.each(func(name *name) {
		for tier := range kv.NumMarks {
			if name.resolved && tr.holds(name, tier) {
				n[tier]++
			}
		}
	})
	return n
}
