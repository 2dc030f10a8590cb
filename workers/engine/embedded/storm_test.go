package embedded

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// index is what an engine's events say is in its pages.
type index struct {
	mu     sync.Mutex
	blocks map[kv.Hash]bool
	twice  int // stored although there, or removed although not
}

func (x *index) apply(list []kv.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range list {
		if e.Tier != kv.GPU {
			continue
		}
		if e.Kind == kv.Cleared {
			clear(x.blocks)
		}
		for _, h := range e.Hashes {
			if x.blocks[h] == (e.Kind == kv.Stored) {
				x.twice++
			}
			if e.Kind == kv.Stored {
				x.blocks[h] = true
			} else {
				delete(x.blocks, h)
			}
		}
	}
}

func (x *index) equals(want map[kv.Hash]bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Equal(x.blocks, want)
}

// follow reads e's events into an index for the rest of the test.
func follow(t *testing.T, e *testEngine) (*index, *events.Reader) {
	x := &index{blocks: map[kv.Hash]bool{}}
	r := events.NewReader(events.ReaderConfig{
		Resolve: func(context.Context) (events.Source, error) { return events.Source(e.EventSource()), nil },
		Model:   "tiny", BlockSize: blockSize, Emit: x.apply,
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
	return x, r
}

// pages is what the block manager says is in the engine's pages.
func (e *testEngine) pages() map[kv.Hash]bool {
	snapshot, stop := e.Manager().Watch(func([]kv.Event) {})
	stop()
	in := map[kv.Hash]bool{}
	for _, ev := range snapshot {
		if ev.Tier == kv.GPU {
			for _, h := range ev.Hashes {
				in[h] = true
			}
		}
	}
	return in
}

func TestEventsTellWhatIsInThePages(t *testing.T) {
	e := start(t, func(c *Config) { c.GPUBlocks = 24 })
	early, _ := follow(t, e)
	rng := trial.Rand(t)
	for range 6 {
		e.complete(randomPrompt(rng, 150), 20, nil)
	}
	trial.Await(t, "the events give the pages", func() bool { return early.equals(e.pages()) })
	late, _ := follow(t, e) // from the replay socket
	trial.Await(t, "a late reader sees the same", func() bool { return late.equals(e.pages()) })
	e.call("POST", "/reset_prefix_cache", nil)
	trial.Await(t, "a reset empties both", func() bool { return len(e.pages()) == 0 && early.equals(e.pages()) && late.equals(e.pages()) })
	e.complete(randomPrompt(rng, 150), 20, nil)
	trial.Await(t, "they agree after it", func() bool { return len(e.pages()) == 10 && early.equals(e.pages()) && late.equals(e.pages()) })
}

// storm is one client: conversations that grow, share beginnings, use salts, are
// restored on the router's word, and are sometimes left.
func (e *testEngine) storm(rng *rand.Rand, client, rounds int, openings [][]uint32) {
	prompt := slices.Clone(openings[rng.IntN(len(openings))])
	for round := range rounds {
		if len(prompt) > 300 || rng.IntN(4) == 0 {
			prompt = slices.Clone(openings[rng.IntN(len(openings))])
		}
		prompt = append(prompt, randomPrompt(rng, 1+rng.IntN(40))...)
		tokens := 1 + rng.IntN(60)
		switch rng.IntN(4) {
		case 0: // leaves
			ctx, leave := context.WithTimeout(context.Background(), time.Duration(rng.IntN(30))*time.Millisecond)
			resp, err := e.request(ctx, "POST", "/v1/completions", object{"prompt": prompt, "max_tokens": 500, "stream": rng.IntN(2) == 0})
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			leave()
		case 1: // the router's call comes too
			id := fmt.Sprintf("%d-%d", client, round)
			hashes := hashesOf(prompt)
			root := kv.RootSpec{Model: "tiny", BlockSize: blockSize}.Hash()
			onboard := func() {
				e.Manager().Onboard(context.Background(), kvbm.OnboardRequest{ID: id, Blocks: kv.Blocks(nil, root, hashes), Hold: time.Second})
			}
			if rng.IntN(2) == 0 {
				onboard()
			}
			got := e.complete(prompt, tokens, nil, requestIDHeader, id, restoreHeader, fmt.Sprint(len(hashes)))
			prompt = append(prompt, got.tokens...)
		case 2:
			e.complete(prompt, tokens, object{"cache_salt": fmt.Sprint(client % 3)})
		default:
			got := e.complete(prompt, tokens, object{"temperature": 1, "seed": client})
			prompt = append(prompt, got.tokens...)
		}
	}
}

func TestLawsHoldInAStorm(t *testing.T) {
	e := start(t, func(c *Config) {
		c.GPUBlocks, c.MaxSeqs, c.ChunkTokens = 40, 8, 64
		c.Tiers = kvbm.Config{CPUBytes: 2 << 20, Disk: kvbm.DiskConfig{Paths: []string{t.TempDir()}, Bytes: 16 << 20}}
	})
	x, reader := follow(t, e)
	rng := trial.Rand(t)
	var openings [][]uint32
	for range 4 {
		openings = append(openings, randomPrompt(rng, 40+rng.IntN(80)))
	}
	var clients sync.WaitGroup
	stormy := make(chan struct{})
	for i := range 16 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		clients.Go(func() { e.storm(rng, i, 8, openings) })
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			s := e.Manager().Stats().Tiers[kv.GPU]
			if s.Free+s.Filling+s.Committed+s.Evicting != s.Capacity {
				t.Errorf("law 1: %+v", s)
			}
			select {
			case <-stormy:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	clients.Wait()
	close(stormy)
	<-watched
	trial.Await(t, "nothing holds a page", func() bool {
		s := e.Manager().Stats().Tiers[kv.GPU]
		return s.Filling+s.Leased == 0
	})
	trial.Await(t, "the events give the pages (law 3)", func() bool { return x.equals(e.pages()) })
	if lost := reader.Stats().Lost(); lost != 0 || x.twice != 0 {
		t.Errorf("%d events were of no use, %d told a change that was none", lost, x.twice)
	}
	restored, preempted := e.metric("vllm:external_prefix_cache_hits_total"), e.metric("vllm:num_preemptions_total")
	if t.Logf("%v tokens restored, %v preemptions", restored, preempted); restored == 0 || preempted == 0 {
		t.Error("the storm restored nothing or preempted nothing; it proves less than it should")
	}
}
