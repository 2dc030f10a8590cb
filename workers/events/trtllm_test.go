package events

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

// trtEngine stands in for TensorRT-LLM, which could not be run: it numbers
// events and hands each out once, as POST /kv_cache_events is documented to.
type trtEngine struct {
	mu     sync.Mutex
	next   int
	queue  []any
	broken bool
}

type object = map[string]any

func (e *trtEngine) tell(window int, data object) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, object{"event_id": e.next, "data": data, "window_size": window})
	e.next++
}

func (e *trtEngine) poll(context.Context) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken {
		return nil, errors.New("connection refused")
	}
	body, err := json.Marshal(e.queue)
	if e.queue = nil; string(body) == "null" {
		body = []byte("[]")
	}
	return body, err
}

const (
	trtWindow = 4096
	trtSize   = 4
)

// stored tells of blocks that follow parent, hashed as TensorRT-LLM does.
func (e *trtEngine) stored(parent EngineHash, tokens []uint32, level int) (last EngineHash) {
	var blocks []object
	var before any
	if parent != 0 {
		before = parent
	}
	for ; len(tokens) > 0; tokens = tokens[min(trtSize, len(tokens)):] {
		block := tokens[:min(trtSize, len(tokens))]
		parent = trtHashOf(uint64(parent), block)
		var list []object
		for _, id := range block {
			list = append(list, object{"type": "unique_token", "token_id": id, "token_extra_id": 0})
		}
		blocks = append(blocks, object{"type": "stored_block", "block_hash": parent, "tokens": list, "cache_level": level, "priority": 35})
	}
	e.tell(trtWindow, object{"type": "stored", "parent_hash": before, "blocks": blocks})
	return parent
}

func (e *trtEngine) removed(hashes ...EngineHash) {
	e.tell(trtWindow, object{"type": "removed", "block_hashes": hashes})
}

// follow reads the engine into a naive index.
func (e *trtEngine) follow(t *testing.T) (*polled, *Reader) {
	t.Helper()
	f := &polled{held: newHeld(t)}
	r := NewReader(ReaderConfig{Poll: e.poll, Model: "m", BlockSize: trtSize, BackoffMin: 1, BackoffMax: 1, Emit: f.apply})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return f, r
}

// polled is a naive index behind a lock.
type polled struct {
	mu   sync.Mutex
	held *held
}

func (f *polled) apply(events []kv.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held.apply(events)
}

func (f *polled) holds(tier kv.Tier, chain ...kv.Hash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range chain {
		if _, ok := f.held.tiers[tier][h]; !ok {
			return false
		}
	}
	return len(f.held.tiers[tier]) == len(chain)
}

func TestTRTLLM(t *testing.T) {
	tokens := make([]uint32, 5*trtSize+2) // the last block is not full
	for i := range tokens {
		tokens[i] = uint32(100 + i)
	}
	chain := kv.Chain(nil, kv.RootSpec{Model: "m", BlockSize: trtSize}.Hash(), tokens, trtSize)
	e := &trtEngine{}
	e.tell(trtWindow, object{"type": "created", "num_blocks_per_cache_level": []int{100, 100}})
	e.stored(0, tokens, 0)
	f, r := e.follow(t)
	soon := func(what string, ok func() bool) {
		t.Helper()
		trial.Await(t, what, ok, func() any { return r.Stats() })
	}
	soon("the prompt", func() bool { return f.holds(kv.GPU, chain...) })

	// One block goes down to the host, and another away altogether.
	names := []EngineHash{}
	for i, parent := 0, EngineHash(0); i < len(chain); i++ {
		parent = trtHashOf(uint64(parent), tokens[i*trtSize:(i+1)*trtSize])
		names = append(names, parent)
	}
	e.tell(trtWindow, object{"type": "updated", "block_hash": names[4], "cache_level": object{"type": "event_diff", "new_value": 1, "old_value": 0}})
	e.removed(names[3])
	soon("what moved", func() bool { return f.holds(kv.GPU, chain[:3]...) && f.holds(kv.CPU, chain[4]) })
	e.removed(names[4])
	e.stored(names[2], tokens[3*trtSize:4*trtSize], 0)
	soon("what came back", func() bool { return f.holds(kv.GPU, chain[:4]...) && f.holds(kv.CPU) })

	// Other windows, salted prompts and images are none of the index's.
	e.tell(512, object{"type": "removed", "block_hashes": names})
	salted := object{"type": "stored_block", "block_hash": 7, "cache_level": 0, "tokens": []object{{"token_id": 1}, {"token_id": 2}, {"token_id": 3}, {"token_id": 4}}}
	e.tell(trtWindow, object{"type": "stored", "parent_hash": nil, "blocks": []object{salted}})
	soon("what is left out", func() bool { s := r.Stats(); return s.WindowEvents == 1 && s.Uncovered == 1 })
	if !f.holds(kv.GPU, chain[:4]...) {
		t.Error("events of others changed the index")
	}

	// Events were lost in a ring that ran over: what is held is not known any more.
	e.mu.Lock()
	e.next += 3
	e.mu.Unlock()
	e.stored(0, tokens[:trtSize], 0)
	soon("a fresh start", func() bool { return f.holds(kv.GPU, chain[0]) && r.Stats().LostBatches == 3 })

	// The server restarts.
	e.mu.Lock()
	e.broken = true
	e.mu.Unlock()
	soon("the break", func() bool { return r.Stats().Breaks == 1 })
	e.mu.Lock()
	e.next, e.broken, e.queue = 0, false, nil
	e.mu.Unlock()
	e.tell(trtWindow, object{"type": "created", "num_blocks_per_cache_level": []int{100, 100}})
	e.stored(0, tokens[:2*trtSize], 0)
	soon("the new server's blocks", func() bool { return f.holds(kv.GPU, chain[:2]...) && r.Stats().Restarts == 1 })
}

// The published vectors of v1_block_key.
func TestTRTLLMHash(t *testing.T) {
	tokens := make([]uint32, 64)
	for i := range tokens {
		tokens[i] = uint32(i)
	}
	first := trtRoot(tokens[:32])
	if second := trtHashOf(uint64(first), tokens[32:]); first != 17461474797406555673 || second != 949730894463544763 {
		t.Errorf("%d, %d", first, second)
	}
}

func FuzzDecodeTRTLLM(f *testing.F) {
	e := &trtEngine{}
	e.tell(trtWindow, object{"type": "created"})
	h := e.stored(0, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0)
	e.tell(trtWindow, object{"type": "updated", "block_hash": h, "cache_level": object{"new_value": 1, "old_value": 0}})
	e.removed(h, 5)
	body, _ := e.poll(context.Background())
	f.Add(body)
	f.Add([]byte(`[{"event_id":1,"data":{"type":"stored","parent_hash":-3,"blocks":[{"block_hash":"a1","tokens":[{"token_id":1,"token_extra_id":9}]}]}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := decodeTRTLLM(body)
		if err != nil {
			return
		}
		var stats ReaderStats
		tr, x := newTranslator("m", 0, false, &stats), trtllm{}
		for i := range list {
			x.apply(nil, tr, &list[i])
			tr.emptied()
		}
		if want := occupied(tr); want != tr.occupied {
			t.Fatalf("the names add up to %v blocks, the translator says %v", want, tr.occupied)
		}
	})
}
