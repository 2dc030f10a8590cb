package tokenizer

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// Long text is encoded in segments, cut where that is proven exact, and the ids
// of a segment are remembered under its content. A conversation that grows, or
// is edited, is then encoded anew only where it changed.
//
// Where text may be cut:
//   - At added tokens: what lies between two is normalized, split and merged on
//     its own. The caller has cut there already.
//   - Byte-level, at newlines, as the pattern allows: newlineCuts.
//   - SentencePiece: after a newline that no piece joins to what follows.
const (
	leastSegment = 1 << 10 // bytes; shorter ones are not worth cutting off
	mostSegment  = 8 << 10 // from here on, every cut that may be made is made
	leastCached  = 1 << 8
	cacheSets    = 1 << 10
	cacheWays    = 8
)

// newlineCuts says where a split pattern allows text to be cut, for no piece
// crosses the cut and none looks behind it or, to any effect, ahead.
type newlineCuts uint8

const (
	// cutAfter: after a newline, if the run of spaces that follows holds no
	// further one. Every alternative that can match a newline ends at the last
	// one of the run.
	cutAfter newlineCuts = 1 << iota
	// cutAfterNoSlash: the same, if no '/' follows, which a piece takes along.
	cutAfterNoSlash
	// cutBefore: before a newline that begins a run of spaces, which is what
	// GPT-2's \s+(?!\S) looks ahead over.
	cutBefore

	cutAny = cutAfter | cutAfterNoSlash | cutBefore
)

// segmentCache is set-associative, without locks: a slot holds a segment that
// was encoded; of those that map to a set, a new one replaces any.
type segmentCache struct {
	seeds [2]maphash.Seed
	slots [cacheSets][cacheWays]atomic.Pointer[segment]
	held  atomic.Int64 // ids in all slots
	hand  atomic.Uint64
}

// mostHeld bounds the ids that the cache holds: 16 MiB.
const mostHeld = 4 << 20

// put keeps a segment in slot, in the place of what was there. Over the bound, it
// empties sets, one after the other in turn.
func (c *segmentCache) put(slot *atomic.Pointer[segment], s *segment) {
	c.held.Add(int64(len(s.ids)) - size(slot.Swap(s)))
	for n := 0; c.held.Load() > mostHeld && n < cacheSets; n++ {
		set := &c.slots[c.hand.Add(1)%cacheSets]
		for i := range set {
			c.held.Add(-size(set[i].Swap(nil)))
		}
	}
}

func size(s *segment) int64 {
	if s == nil {
		return 0
	}
	return int64(len(s.ids))
}

// segment is named by two keyed hashes of its text, 128 bits: nobody can craft
// two texts that are taken for one another.
type segment struct {
	name [2]uint64
	ids  []uint32
}

func newSegmentCache() *segmentCache {
	return &segmentCache{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (c *segmentCache) name(s string) [2]uint64 {
	return [2]uint64{maphash.String(c.seeds[0], s), maphash.String(c.seeds[1], s)}
}

// segments encodes s, normalized text without added tokens, segment by segment.
func (e *encoder) segments(s string) {
	for len(s) >= leastCached {
		end := e.t.nextCut(s)
		e.segmentIDs(s[:end])
		s = s[end:]
	}
	if s != "" {
		e.splitOrMerge(s)
	}
}

// segmentIDs appends the ids of one segment, from the cache or by encoding it.
func (e *encoder) segmentIDs(s string) {
	c := e.t.cache
	name := c.name(s)
	set := &c.slots[name[0]%cacheSets]
	free := &set[name[1]%cacheWays]
	for i := range set {
		switch hit := set[i].Load(); {
		case hit == nil:
			free = &set[i]
		case hit.name == name:
			e.dst = append(e.dst, hit.ids...)
			return
		}
	}
	start := len(e.dst)
	e.splitOrMerge(s)
	if e.err == nil && len(s) <= 4*mostSegment {
		e.t.cache.put(free, &segment{name, slices.Clone(e.dst[start:])})
	}
}

// nextCut is the end of the segment that s begins with. Cuts depend on the text
// around them and not only on where the last one was, so that they fall into
// place again after an edit.
func (t *Tokenizer) nextCut(s string) int {
	if t.newlines == 0 {
		return len(s)
	}
	for i := leastSegment; i < len(s); i++ {
		newline := strings.IndexByte(s[i:], '\n')
		if newline < 0 {
			break
		}
		i += newline
		here := i < mostSegment && pack(s, i-8, i).hash()>>61 != 0
		if here {
			continue
		}
		if end := t.cutAtNewline(s, i); end > 0 {
			return end
		}
	}
	return len(s)
}

// cutAtNewline is where s may be cut at its newline s[i], which is not the first
// byte; 0 if it may not.
func (t *Tokenizer) cutAtNewline(s string, i int) int {
	after := i + 1
	switch {
	case t.newlines&(cutAfter|cutAfterNoSlash) == 0:
		if class, _ := classAt(s, i-runeBefore(s, i)); class&classSpace == 0 {
			return i
		}
	case after == len(s):
		return after
	case t.spm:
		if r, _ := spmRune(s, after); !t.cuts.joined('\n', r, '\n', s[after]) {
			return after
		}
	case t.newlines&cutAfter != 0 || s[after] != '/':
		run := skip(s, after, classSpace)
		if !strings.ContainsAny(s[after:run], "\r\n") {
			return after
		}
	}
	return 0
}
