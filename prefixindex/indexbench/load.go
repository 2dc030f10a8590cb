package indexbench

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
)

// load is the content of the index and the events that change it.
type load struct {
	shared  int         // blocks that a prompt shares with others
	systems [][]kv.Hash // the shared parts, each with its root before it
	prompts [][]kv.Hash // what is looked up; all of it stays
	scripts [][]step    // by worker; each leaves the index as it found it
}

// step is an event and the worker it comes from.
type step struct {
	worker kv.WorkerID
	event  kv.Event
}

const (
	systemPrompts = 16
	// A prompt shares its first eighth with others, the rest is its own.
	sharedPart = 8
	// A worker's script stores prompts as prefills of 10 to 500 blocks and then
	// answers, block by block; it removes the oldest, last block first, when
	// this many are there.
	churnLive    = 64
	churnPrompts = 256
	answerBlocks = 16
)

func workerID(i int) kv.WorkerID { return kv.WorkerID("w" + strconv.Itoa(i)) }

// newLoad makes prompts of o.Blocks blocks in all, and the workers' scripts.
func newLoad(o Options) *load {
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	l := &load{shared: max(1, o.PromptBlocks/sharedPart)}
	for range systemPrompts {
		l.systems = append(l.systems, chain(rng, l.shared+1))
	}
	own := max(1, o.PromptBlocks-l.shared)
	for n := systemPrompts * l.shared; n < o.Blocks || len(l.prompts) == 0; n += own {
		system := l.systems[rng.IntN(systemPrompts)]
		l.prompts = append(l.prompts, slices.Concat(system[1:], chain(rng, own)))
	}
	for w := range o.Workers {
		l.scripts = append(l.scripts, script(rng, workerID(w), l.systems))
	}
	return l
}

// fill enters what stays: each prompt on one worker's gpu, the shared parts on
// all of them.
func (l *load) fill(x *prefixindex.Index, workers int) {
	for w := range workers {
		x.AddWorker(workerID(w), "")
		for _, s := range l.systems {
			x.Apply(workerID(w), kv.Event{Kind: kv.Stored, Parent: s[0], Hashes: s[1:]})
		}
	}
	for i, p := range l.prompts {
		x.Apply(workerID(i%workers), kv.Event{Kind: kv.Stored, Parent: p[l.shared-1], Hashes: p[l.shared:]})
	}
}

// script is one worker's churn.
func script(rng *rand.Rand, w kv.WorkerID, systems [][]kv.Hash) (steps []step) {
	add := func(e kv.Event) { steps = append(steps, step{w, e}) }
	var live [][]kv.Hash
	retire := func() {
		gone := slices.Clone(live[0])
		slices.Reverse(gone)
		add(kv.Event{Kind: kv.Removed, Hashes: gone})
		live = live[1:]
	}
	for range churnPrompts {
		s := systems[rng.IntN(len(systems))]
		prefill := 10 + rng.IntN(491)
		own := chain(rng, prefill+answerBlocks)
		add(kv.Event{Kind: kv.Stored, Parent: s[len(s)-1], Hashes: own[:prefill]})
		for i := range answerBlocks {
			add(kv.Event{Kind: kv.Stored, Parent: own[prefill+i-1], Hashes: own[prefill+i : prefill+i+1]})
		}
		if live = append(live, own); len(live) > churnLive {
			retire()
		}
	}
	for len(live) > 0 {
		retire()
	}
	return steps
}

// chain is n random hashes: block hashes are no different.
func chain(rng *rand.Rand, n int) []kv.Hash {
	out := make([]kv.Hash, n)
	for i := range out {
		binary.LittleEndian.PutUint64(out[i][:8], rng.Uint64())
		binary.LittleEndian.PutUint64(out[i][8:], rng.Uint64())
	}
	return out
}
