package events

import (
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

// story feeds a translator and keeps what its events add up to.
type story struct {
	*translator
	held *held
}

func newStory(t testing.TB, blockSize int) *story {
	return &story{newTranslator("m", blockSize, false, &ReaderStats{}), newHeld(t)}
}

func (s *story) tell(events ...Event) {
	s.held.t.Helper()
	for i := range events {
		events[i].interpret()
		s.held.apply(s.apply(nil, &events[i]))
	}
	if got := s.held.counts(); got != s.occupied {
		s.held.t.Fatalf("the events add up to %v, the translator says %v", got, s.occupied)
	}
}

// has reports whether a tier holds exactly these chains' blocks, and each of
// them after the one before it.
func (s *story) has(tier kv.Tier, hashes ...kv.Hash) {
	s.held.t.Helper()
	if n := len(s.held.tiers[tier]); n != len(hashes) {
		s.held.t.Errorf("%v holds %d blocks, want %d", tier, n, len(hashes))
	}
	for i, h := range hashes {
		parent, ok := s.held.tiers[tier][h]
		if !ok {
			s.held.t.Errorf("%v lacks block %d, %v", tier, i, h)
		} else if i > 0 && parent != hashes[i-1] {
			s.held.t.Errorf("block %d in %v follows %v, want %v", i, tier, parent, hashes[i-1])
		}
	}
}

func root(spec kv.RootSpec) kv.Hash {
	spec.Model, spec.BlockSize = "m", 2
	return spec.Hash()
}

var said = extraKeys{known: true, n: 1 << 10} // an event that says that nothing was mixed in

func intHashes(vs ...uint64) (hs []EngineHash) {
	for _, v := range vs {
		hs = append(hs, IntHash(v))
	}
	return hs
}

func TestTranslatorRecomputesHashes(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4, 5, 6}
	chain := kv.Chain(nil, root(kv.RootSpec{}), tokens, 2)
	s := newStory(t, 2)
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(10, 11), Tokens: tokens[:4], BlockSize: 2})
	eleven := IntHash(11)
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(12), Parent: &eleven, Tokens: tokens[4:], BlockSize: 2})
	s.has(kv.GPU, chain...)
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(12, 11, 99)})
	s.has(kv.GPU, chain[0])

	// A block that goes by the same tokens under another salt or adapter is another block.
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(20), Tokens: tokens[:2], BlockSize: 2, Salt: "tenant"},
		Event{Kind: kv.Stored, Hashes: intHashes(21), Tokens: tokens[:2], BlockSize: 2, LoRA: "ad"})
	for _, spec := range []kv.RootSpec{{Salt: "tenant"}, {LoRA: "ad"}} {
		if want := root(spec).Child(tokens[:2]); s.held.tiers[kv.GPU][want] != root(spec) {
			t.Errorf("no block under %+v", spec)
		}
	}
	s.tell(Event{Kind: kv.Cleared})
	s.has(kv.GPU)
}

func TestBlocksStoredTwiceAreRemovedTwice(t *testing.T) {
	s := newStory(t, 2)
	chain := kv.Chain(nil, root(kv.RootSpec{}), []uint32{1, 2, 3, 4}, 2)
	ten := IntHash(10)
	last := Event{Kind: kv.Stored, Hashes: intHashes(11), Parent: &ten, Tokens: []uint32{3, 4}, BlockSize: 2}
	remove := Event{Kind: kv.Removed, Hashes: intHashes(11)}
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(10), Tokens: []uint32{1, 2}, BlockSize: 2}, last)
	s.tell(last) // a prompt that ends with a block computes that block again
	s.tell(remove)
	s.has(kv.GPU, chain...)
	s.tell(remove)
	s.has(kv.GPU, chain[0])
	s.tell(remove) // once too often
	s.has(kv.GPU, chain[0])
	s.tell(last)
	s.has(kv.GPU, chain...)
}

// With kv_cache_report_mode=full vLLM tells of reused blocks as if it had stored
// them. They are evicted once.
func TestBlocksReportedAgainAreNotHeldTwice(t *testing.T) {
	s := newStory(t, 2)
	chain := kv.Chain(nil, root(kv.RootSpec{}), []uint32{1, 2, 3, 4, 5, 6}, 2)
	prompt := Event{Kind: kv.Stored, Hashes: intHashes(10, 11), Tokens: []uint32{1, 2, 3, 4}, BlockSize: 2}
	eleven := IntHash(11)
	tail := Event{Kind: kv.Stored, Hashes: intHashes(12), Parent: &eleven, Tokens: []uint32{5, 6}, BlockSize: 2}
	again := tail
	again.reused = true // as newer versions say
	s.tell(prompt, tail)
	s.tell(prompt, prompt, again)
	s.has(kv.GPU, chain...)
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(12, 11, 10)})
	s.has(kv.GPU)
	// To a reader that joined late the report is news.
	s.tell(prompt, again)
	s.has(kv.GPU, chain...)
}

// A hybrid model's groups all have to have a block before a prefix that ends
// with it can be reused.
func TestABlockCountsWhenAllGroupsHaveIt(t *testing.T) {
	s := newStory(t, 2)
	chain := kv.Chain(nil, root(kv.RootSpec{}), []uint32{1, 2, 3, 4}, 2)
	a := Event{Kind: kv.Stored, Hashes: intHashes(10, 11), Tokens: []uint32{1, 2, 3, 4}, BlockSize: 2}
	b := a
	b.Group = 1
	s.tell(a)
	s.has(kv.GPU, chain...) // there is one group, as far as anyone knows
	b.Hashes, b.Tokens = b.Hashes[:1], b.Tokens[:2]
	s.tell(b)
	s.has(kv.GPU, chain[0])
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(10, 11), Group: 0})
	s.has(kv.GPU)
	s.tell(a)
	s.has(kv.GPU, chain[0])
}

// Sliding windows keep the last blocks of what was computed at once: a prefix
// can be resumed there, not in between.
func TestWindowGroupsMarkWhereToResume(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	chain := kv.Chain(nil, root(kv.RootSpec{}), tokens, 2)
	window := Event{Kind: kv.Stored, Hashes: intHashes(12, 13), Tokens: tokens[:8], BlockSize: 2, Group: 1, window: true, windowTokens: 4}
	window.extra = extraKeys{known: true, n: 2} // of the blocks named only
	full := Event{Kind: kv.Stored, Hashes: intHashes(10, 11, 12, 13), Tokens: tokens[:8], BlockSize: 2, extra: said}
	s := newStory(t, 2)
	s.tell(window, full)
	s.has(kv.GPU, chain[:4]...)
	s.has(kv.Resume, chain[3]) // block 2 lacks a window before it
	// Decoding goes on block by block.
	p := IntHash(13)
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(14), Parent: &p, Tokens: tokens[8:], BlockSize: 2, Group: 1, window: true, windowTokens: 4, extra: said},
		Event{Kind: kv.Stored, Hashes: intHashes(14), Parent: &p, Tokens: tokens[8:], BlockSize: 2, extra: said})
	s.has(kv.GPU, chain...)
	s.has(kv.Resume, chain[3], chain[4])
	// What is removed is told by group alone.
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(14), Group: 1})
	s.has(kv.GPU, chain...)
	s.has(kv.Resume, chain[3])
	s.tell(Event{Kind: kv.Cleared})
	s.has(kv.GPU)
	s.has(kv.Resume)
}

func TestOffloadEventsComeChildrenFirst(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4, 5, 6, 7, 8}
	chain := kv.Chain(nil, root(kv.RootSpec{Salt: "tenant"}), tokens, 2)
	s := newStory(t, 2)
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(10, 11, 12), Tokens: tokens[:6], BlockSize: 2, Salt: "tenant"})
	offloaded := func(hash, parent uint64, tokens []uint32) Event {
		e := Event{Kind: kv.Stored, Medium: MediumCPU, Hashes: intHashes(hash), Tokens: tokens, BlockSize: 2}
		if parent != 0 {
			p := IntHash(parent)
			e.Parent = &p
		}
		return e
	}
	s.tell(offloaded(13, 12, tokens[6:8])) // its parent is known from the gpu
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(12, 11, 10)})
	s.tell(offloaded(12, 11, tokens[4:6]), offloaded(11, 10, tokens[2:4]))
	// The first block's event does not say what its salt was; that the gpu once
	// held it does.
	s.tell(offloaded(10, 0, tokens[:2]))
	s.has(kv.CPU, chain...)
	s.has(kv.GPU)
	// A reset of the gpu's cache leaves the cpu alone.
	s.tell(Event{Kind: kv.Cleared})
	s.has(kv.CPU, chain...)
}

func TestAnOffloadedBlockOfUnknownSaltIsNotIndexed(t *testing.T) {
	s := newStory(t, 2)
	s.tell(Event{Kind: kv.Stored, Medium: MediumCPU, Hashes: intHashes(10), Tokens: []uint32{1, 2}, BlockSize: 2})
	s.has(kv.CPU)
	if s.stats.Uncovered != 1 {
		t.Errorf("stats: %+v", *s.stats)
	}
}

func TestOrphansWaitForTheirParents(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4, 5, 6, 7, 8}
	chain := kv.Chain(nil, root(kv.RootSpec{}), tokens, 2)
	run := func(parent uint64, first uint64, from, to int) Event {
		p := IntHash(parent)
		e := Event{Kind: kv.Stored, Parent: &p, Tokens: tokens[2*from : 2*to], BlockSize: 2}
		for i := range to - from {
			e.Hashes = append(e.Hashes, IntHash(first+uint64(i)))
		}
		return e
	}
	s := newStory(t, 2)
	s.tell(run(12, 13, 3, 4), run(10, 11, 1, 3))
	s.has(kv.GPU)
	s.tell(Event{Kind: kv.Removed, Hashes: intHashes(12)}) // while it waits
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(10), Tokens: tokens[:2], BlockSize: 2})
	if got := s.held.tiers[kv.GPU]; len(got) != 3 || got[chain[3]] != chain[2] {
		t.Errorf("want all blocks but the one removed, and its child after it: %v", s.held)
	}
}

func TestOrphansAreBounded(t *testing.T) {
	s := newStory(t, 2)
	for i := range maxOrphans + 2 {
		p := IntHash(uint64(1<<40 + i))
		s.tell(Event{Kind: kv.Stored, Hashes: intHashes(uint64(i + 1)), Parent: &p, Tokens: []uint32{1, 2}, BlockSize: 2})
	}
	if s.stats.OrphansLost != maxOrphans+1 || s.names.live != 1 || s.waiting != 1 {
		t.Errorf("lost %d, names %d, waiting %d", s.stats.OrphansLost, s.names.live, s.waiting)
	}
}

func TestHashesMapFromTheEndOfTheTokens(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4, 5, 6}
	chain := kv.Chain(nil, root(kv.RootSpec{}), tokens, 2)
	s := newStory(t, 2)
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(11, 12), Tokens: tokens, BlockSize: 2, extra: said})
	if s.held.tiers[kv.GPU][chain[1]] != chain[0] || s.held.tiers[kv.GPU][chain[2]] != chain[1] {
		t.Errorf("want the last two of %v, got %v", chain, s.held)
	}
}

func TestWhatCannotBeUsedIsCounted(t *testing.T) {
	tokens := []uint32{1, 2, 3, 4}
	s := newStory(t, 2)
	ten := IntHash(10)
	s.tell(
		Event{Kind: kv.Stored, Hashes: intHashes(1), Medium: MediumCPU}, // placeholder
		Event{Kind: kv.Stored, Hashes: intHashes(2), Tokens: tokens, BlockSize: 4},
		Event{Kind: kv.Stored, Hashes: intHashes(3), Tokens: tokens, BlockSize: 2, Medium: "TAPE"},
		Event{Kind: kv.Stored, Hashes: intHashes(4), Tokens: tokens, BlockSize: 2, remote: true},
		Event{Kind: kv.Stored, Hashes: intHashes(5), Tokens: tokens, BlockSize: 2, window: true},
		// A block with an image, and one after it.
		Event{Kind: kv.Stored, Hashes: intHashes(10, 11), Tokens: tokens, BlockSize: 2, extra: extraKeys{known: true, n: 2, per: []blockExtra{{odd: true}}}},
		Event{Kind: kv.Stored, Hashes: intHashes(12), Parent: &ten, Tokens: tokens[:2], BlockSize: 2},
	)
	s.has(kv.GPU)
	want := ReaderStats{Placeholders: 1, Mismatched: 1, UnknownEvents: 2, WindowEvents: 1, Uncovered: 3}
	if *s.stats != want {
		t.Errorf("stats: %+v\nwant:  %+v", *s.stats, want)
	}
	if s.stats.Lost() != 7 {
		t.Errorf("lost: %d", s.stats.Lost())
	}
}

func TestSGLangClearsAllItsTiers(t *testing.T) {
	s := newStory(t, 2)
	s.sglang = true
	s.tell(Event{Kind: kv.Stored, Hashes: intHashes(1), Tokens: []uint32{1, 2}, BlockSize: 2},
		Event{Kind: kv.Stored, Hashes: intHashes(1), Tokens: []uint32{1, 2}, BlockSize: 2, Medium: "CPU_PINNED"},
		Event{Kind: kv.Stored, Hashes: intHashes(2), Tokens: []uint32{3, 4}, BlockSize: 2, Medium: "DISK"})
	if got := s.held.counts(); got != [kv.NumMarks]int{1, 1, 1} {
		t.Fatalf("counts %v", got)
	}
	s.tell(Event{Kind: kv.Cleared})
	if got := s.held.counts(); got != [kv.NumMarks]int{} {
		t.Errorf("counts after clear %v", got)
	}
}

// A real vLLM's offload events, after its own event about the same prompt.
func TestRecordedOffloadJoinsRecordedPrompt(t *testing.T) {
	var prompt, offload []byte
	for _, r := range recorded(t, "vllm-cpu/frames.jsonl") {
		switch {
		case r.Request == "d1 prompt 300 tok":
			offload = r.payload
		case r.Request == "c3 after reset -> connector" && r.Config != "" && prompt == nil && ints(lastStored(decode(t, r.payload)).Hashes)[0] == 9782116904379918778:
			prompt = r.payload
		}
	}
	stored := lastStored(decode(t, prompt))
	chain := kv.Chain(nil, kv.RootSpec{Model: "m", BlockSize: 32}.Hash(), stored.Tokens, 32)
	s := newStory(t, 32)
	for _, payload := range [][]byte{prompt, offload} {
		b := decode(t, payload)
		for i := range b.Events {
			s.held.apply(s.apply(nil, &b.Events[i]))
		}
	}
	s.has(kv.GPU, chain...)
	s.has(kv.CPU, chain...)
}

func lastStored(b Batch) Event {
	i := len(b.Events) - 1
	for b.Events[i].Kind != kv.Stored {
		i--
	}
	return b.Events[i]
}

// Many random steps of an engine, told in shuffled order within a batch as its
// offload does, must leave exactly what the engine holds.
func TestTranslatorAgainstNaiveEngine(t *testing.T) {
	r := trial.Rand(t)
	s := newStory(t, 2)
	type copyOf struct {
		block kv.Block
		tier  kv.Tier
		group int
	}
	copies := map[copyOf]int{}
	groups := [kv.NumMarks]map[int]bool{{}, {}, {}}
	media := [...]string{kv.GPU: MediumGPU, kv.CPU: MediumCPU, kv.Disk: "STORAGE"}
	for step := range 3000 {
		switch r.IntN(10) {
		case 0: // the gpu is reset
			if r.IntN(20) > 0 {
				continue
			}
			s.tell(Event{Kind: kv.Cleared})
			for c := range copies {
				if c.tier == kv.GPU {
					delete(copies, c)
				}
			}
		case 1, 2, 3: // something is evicted
			var batch []Event
			for c, n := range copies {
				if r.IntN(4) > 0 || n == 0 {
					continue
				}
				batch = append(batch, Event{Kind: kv.Removed, Group: c.group, Medium: media[c.tier], Hashes: []EngineHash{HashOf(c.block.Hash)}})
				if copies[c]--; copies[c] == 0 {
					delete(copies, c)
				}
			}
			s.tell(batch...)
		default: // a prompt is stored, by runs
			tokens := make([]uint32, 2*(1+r.IntN(6)))
			for i := range tokens {
				tokens[i] = uint32(r.IntN(2))
			}
			spec := kv.RootSpec{Salt: []string{"", "a"}[r.IntN(2)]}
			chain := kv.Blocks(nil, root(spec), kv.Chain(nil, root(spec), tokens, 2))
			tier, group := kv.Tier(r.IntN(3)), r.IntN(2)
			var batch []Event
			for i := 0; i < len(chain); {
				n := 1 + r.IntN(len(chain)-i)
				e := Event{Kind: kv.Stored, Group: group, Medium: media[tier], Tokens: tokens[2*i : 2*(i+n)], BlockSize: 2, extra: said, Salt: spec.Salt}
				if i > 0 {
					p := HashOf(chain[i-1].Hash)
					e.Parent, e.Salt = &p, ""
				}
				for _, b := range chain[i : i+n] {
					e.Hashes = append(e.Hashes, HashOf(b.Hash))
					c := copyOf{b, tier, group}
					if i > 0 || tier != kv.GPU || copies[c] == 0 {
						copies[c]++
					}
				}
				groups[tier][group] = true
				batch = append(batch, e)
				i += n
			}
			r.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			s.tell(batch...)
		}
		if step%100 == 0 {
			want := newHeld(t)
			for c := range copies {
				if whole := copies[copyOf{c.block, c.tier, 0}] > 0 && copies[copyOf{c.block, c.tier, 1}] > 0; whole || len(groups[c.tier]) == 1 {
					want.tiers[c.tier][c.block.Hash] = c.block.Parent
				}
			}
			if !want.equal(s.held) {
				t.Fatalf("step %d: got\n%vwant\n%v", step, s.held, want)
			}
			if s.waiting != 0 {
				t.Fatalf("step %d: %d blocks wait for parents that came", step, s.waiting)
			}
		}
	}
	if len(copies) == 0 || s.stats.Lost() != 0 {
		t.Errorf("%d copies at the end, stats %+v", len(copies), *s.stats)
	}
}
