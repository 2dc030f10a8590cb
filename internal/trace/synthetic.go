package trace

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Synthetic describes a workload to make up.
type Synthetic struct {
	Kind     string // one of Kinds
	Requests int
	// PerSecond is the mean arrival rate of requests.
	PerSecond float64
	BlockSize int
	Seed      uint64
}

// kinds are the generators: each makes one conversation, whose requests share
// what they share, at times from 0 on.
var kinds = []struct {
	name string
	make func(*author) []Request
}{
	{"multi-round-qa", multiRound},
	{"shared-system-prompts", sharedSystem},
	{"agents", agents},
	{"rag", rag},
	{"long-tail", longTail},
}

// Kinds are the synthetic workloads there are.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Synthesize makes the workload up. Equal descriptions make equal traces.
func Synthesize(s Synthetic) (*Trace, error) {
	i := slices.Index(Kinds(), s.Kind)
	switch {
	case i < 0:
		return nil, fmt.Errorf("trace: unknown workload %q: use one of %s", s.Kind, strings.Join(Kinds(), ", "))
	case s.Requests < 1 || s.BlockSize < 1 || !(s.PerSecond > 0):
		return nil, fmt.Errorf("trace: %d requests in blocks of %d tokens at %v a second: want more than 0 of each", s.Requests, s.BlockSize, s.PerSecond)
	}
	a := &author{rng: rand.New(rand.NewPCG(s.Seed, 0)), blockSize: s.BlockSize, next: 1, shared: map[string][]uint64{}}
	t := &Trace{Name: s.Kind, BlockSize: s.BlockSize, Requests: make([]Request, 0, s.Requests)}
	for len(t.Requests) < s.Requests {
		conversation := kinds[i].make(a)
		a.sessions++
		for j := range conversation {
			conversation[j].Session = strconv.Itoa(a.sessions)
			conversation[j].At += a.clock
		}
		t.Requests = append(t.Requests, conversation[:min(len(conversation), s.Requests-len(t.Requests))]...)
		// Conversations begin as a Poisson process.
		a.clock += time.Duration(a.rng.ExpFloat64() * float64(len(conversation)) / s.PerSecond * float64(time.Second))
	}
	slices.SortStableFunc(t.Requests, func(x, y Request) int { return cmp.Compare(x.At, y.At) })
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", s))
	t.SHA256 = hex.EncodeToString(sum[:])
	return t, nil
}

// author makes conversations up.
type author struct {
	rng       *rand.Rand
	blockSize int
	next      uint64              // id of the next new block
	shared    map[string][]uint64 // texts that many prompts begin with, by name
	sessions  int
	clock     time.Duration
}

// text is a prompt so far: full blocks, and tokens beyond them.
type text struct {
	blocks []uint64
	tokens int
}

// add appends tokens that nobody else has.
func (a *author) add(t *text, tokens int) {
	t.tokens += max(1, tokens)
	for len(t.blocks) < t.tokens/a.blockSize {
		t.blocks = append(t.blocks, a.next)
		a.next++
	}
}

// open is a text that begins with a shared one, rounded to full blocks.
func (a *author) open(name string, tokens int) text {
	n := max(1, tokens/a.blockSize)
	for len(a.shared[name]) < n {
		a.shared[name] = append(a.shared[name], a.next)
		a.next++
	}
	return text{blocks: slices.Clone(a.shared[name][:n]), tokens: n * a.blockSize}
}

// ask is a request with the text so far.
func (a *author) ask(t *text, at time.Duration, output int) Request {
	blocks := slices.Clone(t.blocks)
	if t.tokens%a.blockSize > 0 { // the last block is partial, and nobody else's
		blocks = append(blocks, a.next)
		a.next++
	}
	return Request{At: at, Input: t.tokens, Output: max(1, output), Blocks: blocks}
}

// around is a log-normal number with the given median.
func (a *author) around(median, spread float64) int {
	return int(median * math.Exp(spread*a.rng.NormFloat64()))
}

func (a *author) pause(mean time.Duration) time.Duration {
	return time.Duration(a.rng.ExpFloat64() * float64(mean))
}

// zipf is a number below n; the first ones are the most frequent.
func (a *author) zipf(n int) int {
	return min(n-1, int(math.Exp(a.rng.Float64()*math.Log(float64(n+1))))-1)
}

// rounds asks n times, each time with the answers and a new question appended.
func (a *author) rounds(t text, n int, question, answer float64, think time.Duration) (rs []Request) {
	at := time.Duration(0)
	for range n {
		a.add(&t, a.around(question, 0.8))
		output := min(2000, a.around(answer, 0.7))
		rs = append(rs, a.ask(&t, at, output))
		a.add(&t, output)
		at += time.Duration(output)*10*time.Millisecond + a.pause(think)
	}
	return rs
}

// multiRound: a document of the user's, then questions about it.
func multiRound(a *author) []Request {
	t := a.open("system", 1024)
	a.add(&t, min(60_000, a.around(3000, 1)))
	return a.rounds(t, 1+a.rng.IntN(8), 150, 250, 20*time.Second)
}

// sharedSystem: a few products with long instructions, short chats.
func sharedSystem(a *author) []Request {
	t := a.open("product "+strconv.Itoa(a.zipf(32)), 6000)
	return a.rounds(t, 1+a.rng.IntN(3), 200, 200, 15*time.Second)
}

// agents: tool descriptions, then many quick turns that each append a result.
func agents(a *author) []Request {
	t := a.open("tools "+strconv.Itoa(a.zipf(8)), 8000)
	a.add(&t, a.around(800, 0.5))
	return a.rounds(t, 4+a.rng.IntN(20), 900, 90, 2*time.Second)
}

// rag: one question over a few passages, of which some are popular. Only what
// comes first is a prefix: instructions, then the best passage.
func rag(a *author) []Request {
	t := a.open("passage "+strconv.Itoa(a.zipf(2000)), 2048)
	a.add(&t, 3*1024+a.around(100, 0.5))
	return []Request{a.ask(&t, 0, a.around(180, 0.6))}
}

// longTail: most prompts are short, a few are very long; a quarter come back.
func longTail(a *author) []Request {
	t := a.open("system", 512)
	a.add(&t, min(120_000, a.around(1500, 1.6)))
	n := 1
	if a.rng.IntN(4) == 0 {
		n = 2
	}
	return a.rounds(t, n, 100, 300, 30*time.Second)
}
