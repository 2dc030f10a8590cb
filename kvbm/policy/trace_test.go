package policy

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const conversation = "../../../shared/data/traces/conversation_trace.jsonl.gz"

// readTrace is the blocks of each request of a trace, in the order of arrival.
func readTrace(t *testing.T, path string) (requests [][]kv.Block) {
	t.Helper()
	if raceDetector {
		t.Skip("a trace in one goroutine has no races, and takes long to say so")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("no shared test data: %v", err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(in); d.More(); {
		var line struct {
			HashIDs []uint64 `json:"hash_ids"`
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		var hashes []kv.Hash
		for _, id := range line.HashIDs {
			hashes = append(hashes, hash(id))
		}
		requests = append(requests, kv.Blocks(nil, kv.Hash{}, hashes))
	}
	return requests
}

// replay sends requests one after another through a table and returns the share
// of their blocks that was there. A request hits its leading blocks that are in
// the table, up to the first that is not; all after that one are computed and
// committed, in order, each making room for itself when the table is full.
func replay(t *testing.T, e Eviction, capacity int, requests [][]kv.Block) float64 {
	t.Helper()
	tab := NewTable(e, capacity)
	hits, blocks := 0, 0
	for _, bs := range requests {
		blocks += len(bs)
		lead := 0
		for ; lead < len(bs); lead++ {
			s, ok := tab.Find(bs[lead].Hash)
			if !ok {
				break
			}
			tab.Hit(s)
		}
		hits += lead
		for _, b := range bs[lead:] {
			if s, ok := tab.Find(b.Hash); ok {
				tab.Hit(s)
				continue
			}
			s, ok := tab.Fill(AllParts)
			if !ok {
				victim, _, _ := tab.Evict(AllParts)
				tab.Evicted(victim)
				s, _ = tab.Fill(AllParts)
			}
			if !tab.Commit(s, b) {
				t.Fatal("a block that was not found is there")
			}
			tab.Unlease(s)
		}
	}
	check(t, tab)
	return float64(hits) / float64(blocks)
}

func TestHitRatesOnTheConversationTrace(t *testing.T) {
	requests := readTrace(t, conversation)
	for _, c := range []struct {
		eviction Eviction
		capacity int
		want     float64 // percent
	}{
		{LRU, 3000, 6.5}, {LRU, 10_000, 21.1}, {LRU, 30_000, 32.6},
		{ARC, 3000, 8.5}, {ARC, 10_000, 22.7}, {ARC, 30_000, 31.2},
	} {
		t.Run(fmt.Sprint(c.eviction, c.capacity), func(t *testing.T) {
			got := 100 * replay(t, c.eviction, c.capacity, requests)
			t.Logf("%.2f %%, the reference has %.1f %%", got, c.want)
			if math.Abs(got-c.want) > 1 {
				t.Errorf("more than a point off")
			}
		})
	}
}
