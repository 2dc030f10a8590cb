package events

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

// resumable is how many blocks of a prompt an engine may find in its cache: all
// up to the last mark that leaves a token to compute.
func (s *story) resumable(tokens []uint32) int {
	size := s.root.BlockSize
	chain := kv.Chain(nil, s.root.Hash(), tokens, size)
	found := 0
	for i, h := range chain[:(len(tokens)-1)/size] {
		if _, held := s.held.tiers[kv.GPU][h]; !held {
			break
		}
		if _, marked := s.held.tiers[kv.Resume][h]; marked {
			found = i + 1
		}
	}
	return found
}

// The frames of a real vLLM 0.32 with a small Gemma 3 (three groups of layers
// see 64 tokens, one sees everything), each with the prompt that caused it and
// how much of that the engine had found cached: a prompt of whole blocks, the
// same again, a longer one, one that leaves it half way, and a decoded answer.
func TestHybridEngineFindsWhatWasMarked(t *testing.T) {
	f, err := os.Open("testdata/hybrid.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newStory(t, 32)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r struct {
			Prompt []uint32
			Cached int
			Frame  string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		payload, err := hex.DecodeString(r.Frame)
		if err != nil {
			t.Fatal(err)
		}
		b := decode(t, payload)
		// The last frames are of one answer, decoded block by block.
		if found := 32 * s.resumable(r.Prompt); found != r.Cached && len(r.Prompt) != 70 {
			t.Errorf("prompt of %d tokens: %d resumable, the engine found %d", len(r.Prompt), found, r.Cached)
		}
		for i := range b.Events {
			s.held.apply(s.apply(nil, &b.Events[i]))
		}
	}
	if s.stats.Lost() != 0 {
		t.Errorf("lost something: %+v", *s.stats)
	}
}

// Whatever groups of different windows store and remove in whatever order, the
// marks are where each has a full window, or all from the start.
func TestWindowsRandom(t *testing.T) {
	rng := trial.Rand(t)
	for range 200 {
		windowStory(t, rng)
		if t.Failed() {
			return
		}
	}
}

func windowStory(t *testing.T, rng *rand.Rand) {
	const blocks = 12
	var tokens [2 * blocks]uint32
	for i := range tokens {
		tokens[i] = rng.Uint32N(100)
	}
	chain := kv.Chain(nil, root(kv.RootSpec{}), tokens[:], 2)
	whole := Event{Kind: kv.Stored, Group: 2, Tokens: tokens[:], BlockSize: 2, extra: said}
	for i := range uint64(blocks) {
		whole.Hashes = append(whole.Hashes, IntHash(100+i))
	}
	s := newStory(t, 2)
	var stored [2][blocks]int // times, by group
	var needs [2]int
	for g := range needs {
		needs[g] = 1 + rng.IntN(4)
		s.tell(Event{Kind: kv.Stored, Group: g, Hashes: whole.Hashes[:1], Tokens: tokens[:2], BlockSize: 2, extra: said, window: true, windowTokens: 2 * needs[g]})
		stored[g][0] = 1
	}
	named := rng.IntN(50) // until then nobody knows what the hashes stand for
	for step := range 150 {
		g, i := rng.IntN(2), rng.IntN(blocks)
		switch n := rng.IntN(40); {
		case step == named:
			s.tell(whole)
		case n == 0 && step > named:
			s.tell(Event{Kind: kv.Cleared}, whole)
			stored = [2][blocks]int{}
		case n < 20:
			s.tell(Event{Kind: kv.Removed, Group: g, Hashes: whole.Hashes[i : i+1]})
			stored[g][i] = max(0, stored[g][i]-1)
		default:
			e := Event{Kind: kv.Stored, Group: g, Tokens: tokens[:], BlockSize: 2, extra: said, window: true, windowTokens: 2 * needs[g]}
			for k := i; k < blocks; k++ {
				if rng.IntN(3) > 0 {
					e.Hashes = append(e.Hashes, whole.Hashes[k])
					stored[g][k]++
				}
			}
			s.tell(e)
		}
		var marks []kv.Hash
		for k := range blocks {
			if step >= named && fullWindow(stored[0][:k+1], needs[0]) && fullWindow(stored[1][:k+1], needs[1]) {
				marks = append(marks, chain[k])
			}
		}
		if s.hasMarks(marks); t.Failed() {
			t.Fatalf("step %d: windows of %v blocks, stored %v", step, needs, stored)
		}
	}
}

// fullWindow reports whether the last blocks are held, as many as needed or all.
func fullWindow(stored []int, need int) bool {
	return !slices.Contains(stored[max(0, len(stored)-need):], 0)
}

// hasMarks reports marks that are missing or too many.
func (s *story) hasMarks(want []kv.Hash) {
	s.held.t.Helper()
	got := s.held.tiers[kv.Resume]
	for i, h := range want {
		if _, ok := got[h]; !ok {
			s.held.t.Errorf("mark %d of %d is missing", i, len(want))
		}
	}
	if len(got) != len(want) {
		s.held.t.Errorf("%d marks, want %d", len(got), len(want))
	}
}
