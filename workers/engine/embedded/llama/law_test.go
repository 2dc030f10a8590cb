package llama

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tinyModel(t testing.TB) *Model {
	t.Helper()
	dir := t.TempDir()
	if err := WriteTiny(dir, 1); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// withProcs lets runners have more threads than the machine has processors.
func withProcs(t testing.TB, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// alone runs tokens one by one on one thread: the truth that every other way of
// computing them must reproduce to the bit.
func alone(t *testing.T, m *Model, blockSize int, tokens []uint32) (logits [][]float32, pages [][]byte) {
	t.Helper()
	r := NewRunner(m, blockSize, 1)
	defer r.Close()
	pages = newPages(m, blockSize, len(tokens))
	for pos := range tokens {
		out, err := r.Step(context.Background(), []Sequence{{Tokens: tokens[pos : pos+1], Start: pos, Pages: pages, Logits: true}})
		if err != nil {
			t.Fatal(err)
		}
		logits = append(logits, slices.Clone(out[0]))
	}
	return logits, pages
}

// runState is a sequence on its way through a random run.
type runState struct {
	tokens []uint32
	truth  [][]float32
	kv     [][]byte
	pages  [][]byte
	done   int
}

// randomRun computes the sequences in random chunks, batched at random, on pages
// scattered over one pool that starts out as noise, and compares all logits that
// it asks for and, in the end, all pages.
func randomRun(t *testing.T, rng *rand.Rand, m *Model, blockSize, threads, longest int, states []*runState) {
	t.Helper()
	r := NewRunner(m, blockSize, threads)
	defer r.Close()
	var pool [][]byte
	for _, s := range states {
		pool = append(pool, newPages(m, blockSize, len(s.tokens))...)
	}
	for _, p := range pool {
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
	}
	rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	for _, s := range states {
		n := (len(s.tokens) + blockSize - 1) / blockSize
		s.pages, pool = pool[:n:n], pool[n:]
		// Some sequences start from restored blocks: bytes computed elsewhere.
		s.done = min(len(s.tokens)-1, rng.IntN(n)*blockSize*rng.IntN(2))
		for i := range s.done / blockSize {
			copy(s.pages[i], s.kv[i])
		}
		s.done -= s.done % blockSize
	}
	for left := len(states); left > 0; {
		var batch []Sequence
		var who []*runState
		for _, s := range states {
			if s.done == len(s.tokens) || rng.IntN(3) == 0 {
				continue
			}
			n := 1
			if rng.IntN(3) > 0 {
				n = 1 + rng.IntN(min(longest, len(s.tokens)-s.done))
			}
			batch = append(batch, Sequence{Tokens: s.tokens[s.done : s.done+n], Start: s.done, Pages: s.pages, Logits: rng.IntN(4) > 0})
			who = append(who, s)
		}
		out, err := r.Step(context.Background(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range who {
			s.done += len(batch[i].Tokens)
			if batch[i].Logits != (out[i] != nil) {
				t.Fatalf("logits asked for: %v, given: %v", batch[i].Logits, out[i] != nil)
			}
			if out[i] != nil && !sameBits(out[i], s.truth[s.done-1]) {
				t.Fatalf("block size %d, %d threads: the logits after %d tokens (%d in this step, %d sequences) differ from the lone run's",
					blockSize, threads, s.done, len(batch[i].Tokens), len(batch))
			}
			if s.done == len(s.tokens) {
				left--
			}
		}
	}
	for _, s := range states {
		for i, p := range s.pages[:len(s.tokens)/blockSize] { // full pages: the last one's tail is noise
			if !slices.Equal(p, s.kv[i]) {
				t.Fatalf("block size %d, %d threads: the bytes of page %d differ from the lone run's", blockSize, threads, i)
			}
		}
	}
}

func TestBitsDoNotDependOnHowTokensAreComputed(t *testing.T) {
	withProcs(t, 4)
	rng := trial.Rand(t)
	most := 200 // tokens of a sequence
	if raceDetector || Kernels() == "portable" {
		most = 40 // both make kernels tens of times slower
	}
	models := map[string]*Model{"tiny": tinyModel(t)}
	for name, spec := range specs {
		if spec.law {
			models[name], _ = spec.build(t, rng)
		}
	}
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			longest := 0
			for range 2 {
				blockSize := []int{1, 4, 16, 24, 32, 128}[rng.IntN(6)]
				var states []*runState
				for range 1 + rng.IntN(4) {
					s := &runState{tokens: make([]uint32, 1+rng.IntN(most))}
					for i := range s.tokens {
						s.tokens[i] = rng.Uint32N(uint32(m.config.Vocab))
					}
					s.truth, s.kv = alone(t, m, blockSize, s.tokens)
					longest = max(longest, len(s.tokens))
					states = append(states, s)
				}
				for _, threads := range []int{1, 2 + rng.IntN(3)} {
					randomRun(t, rng, m, blockSize, threads, 1+rng.IntN(longest), states)
				}
			}
		})
	}
}

// The block size orders the bytes in a page, but not the arithmetic.
func TestBitsDoNotDependOnTheBlockSize(t *testing.T) {
	m, tokens := tinyModel(t), []uint32(nil)
	for i := range 100 {
		tokens = append(tokens, uint32(i*i%259))
	}
	want, _ := alone(t, m, 16, tokens)
	for _, blockSize := range []int{1, 7, 200} {
		got, _ := alone(t, m, blockSize, tokens)
		for i := range got {
			if !sameBits(got[i], want[i]) {
				t.Fatalf("block size %d: logits after %d tokens differ from block size 16", blockSize, i+1)
			}
		}
	}
}

// A prompt longer than one product tile and many attention tiles, at once.
func TestALongPromptAtOnceEqualsOneByOne(t *testing.T) {
	withProcs(t, 3)
	rng := trial.Rand(t)
	m := tinyModel(t)
	tokens := make([]uint32, 300)
	for i := range tokens {
		tokens[i] = rng.Uint32N(259)
	}
	want, kv := alone(t, m, 16, tokens)
	r := NewRunner(m, 16, 3)
	defer r.Close()
	pages := newPages(m, 16, len(tokens))
	out, err := r.Step(context.Background(), []Sequence{{Tokens: tokens, Pages: pages, Logits: true}})
	if err != nil {
		t.Fatal(err)
	}
	full := len(tokens) / 16
	if !sameBits(out[0], want[len(want)-1]) || !slices.EqualFunc(pages[:full], kv[:full], slices.Equal[[]byte]) {
		t.Fatal("one prefill of 300 tokens differs from 300 steps")
	}
}

func TestARealModelKeepsTheLaw(t *testing.T) {
	if Kernels() == "portable" {
		t.Skip("without vector kernels this takes minutes; TestBitsDoNotDependOnHowTokensAreComputed checks the law on small models")
	}
	m := demoModel(t)
	rng := trial.Rand(t)
	s := &runState{tokens: make([]uint32, 80)}
	for i := range s.tokens {
		s.tokens[i] = rng.Uint32N(uint32(m.config.Vocab))
	}
	s.truth, s.kv = alone(t, m, 16, s.tokens)
	for range 3 {
		randomRun(t, rng, m, 16, 2, 80, []*runState{s})
	}
}

func TestACancelledStepStops(t *testing.T) {
	m := tinyModel(t)
	r := NewRunner(m, 16, 2)
	defer r.Close()
	seq := []Sequence{{Tokens: []uint32{1, 2, 3}, Pages: newPages(m, 16, 3), Logits: true}}
	want, err := r.Step(context.Background(), seq)
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(want[0])
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Step(ctx, seq); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	again, err := r.Step(context.Background(), seq)
	if err != nil || !sameBits(again[0], before) {
		t.Fatalf("after a cancelled step the runner computes something else (%v)", err)
	}
}

func TestStepRefusesWhatItCannotRun(t *testing.T) {
	m := tinyModel(t)
	r := NewRunner(m, 16, 1)
	defer r.Close()
	pages := newPages(m, 16, 16)
	odd := make([]byte, m.BlockBytes(16)+1)
	refuse := func(what string, s Sequence) {
		t.Helper()
		if _, err := r.Step(context.Background(), []Sequence{s}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	refuse("no tokens", Sequence{Pages: pages})
	refuse("unknown token", Sequence{Tokens: []uint32{259}, Pages: pages})
	refuse("negative start", Sequence{Tokens: []uint32{1}, Start: -1, Pages: pages})
	refuse("past the pages", Sequence{Tokens: []uint32{1}, Start: 16, Pages: pages})
	refuse("past the context", Sequence{Tokens: []uint32{1}, Start: tinyContext, Pages: newPages(m, 16, tinyContext+1)})
	refuse("a short page", Sequence{Tokens: []uint32{1}, Pages: [][]byte{pages[0][:100]}})
	refuse("an odd page", Sequence{Tokens: []uint32{1}, Pages: [][]byte{odd[1:]}})
	if out, err := r.Step(context.Background(), nil); err != nil || len(out) != 0 {
		t.Errorf("an empty step: %v, %v", out, err)
	}
}

func TestSteadyDecodingDoesNotAllocate(t *testing.T) {
	m := tinyModel(t)
	r := NewRunner(m, 16, 2)
	defer r.Close()
	pages := newPages(m, 16, 64)
	seqs := []Sequence{{Tokens: []uint32{7}, Start: 40, Pages: pages, Logits: true}}
	n := testing.AllocsPerRun(50, func() {
		if _, err := r.Step(context.Background(), seqs); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%g allocations a step", n)
	}
}

// Every task runs once, however short phases are and however long the pauses
// between them.
func TestTeamRunsEveryTaskOnce(t *testing.T) {
	withProcs(t, 4)
	rng := trial.Rand(t)
	team := newTeam(4)
	defer team.stop()
	counts := make([]int, 100)
	work := func(_, task int) { counts[task]++ }
	for round := range 600 {
		tasks := rng.IntN(len(counts))
		clear(counts)
		team.run(tasks, &work)
		for task, n := range counts {
			if (n == 1) != (task < tasks) {
				t.Fatalf("round %d of %d tasks: task %d ran %d times", round, tasks, task, n)
			}
		}
		if rng.IntN(100) == 0 { // let members fall asleep
			for i := 1; i < 4; i++ {
				for !team.members[i].asleep.Load() {
					runtime.Gosched()
				}
			}
		}
	}
}

func ExampleWriteTiny() {
	dir, _ := os.MkdirTemp("", "tiny")
	defer os.RemoveAll(dir)
	if err := WriteTiny(dir, 1); err != nil {
		panic(err)
	}
	m, err := Open(dir)
	if err != nil {
		panic(err)
	}
	c := m.Config()
	fmt.Println(c.Arch, c.Layers, c.Vocab, c.MaxContext, c.EOS, m.DType(), m.BlockBytes(16))
	// Output: llama 3 259 8192 [257] bf16 24576
}
