package tokenizer

import (
	"hash/maphash"
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
	cacheSets    = 1 << 11
	cacheWays    = 4
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
		if e.plan != nil {
			e.plan.add(e, s[:end])
		} else {
			e.segmentIDs(s[:end])
		}
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
	if len(s) <= 4*mostSegment {
		free.Store(&segment{name, append([]uint32(nil), e.dst[start:]...)})
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

// plan is the segments of a text, to be encoded in any order.
type plan struct{ parts []planPart }

// planPart is ids that are known, or a segment.
type planPart struct {
	ids  []uint32
	text string
}

// add appends the ids so far, and a segment, whose text is copied if it lies in
// a buffer of e.
func (p *plan) add(e *encoder, s string) {
	if len(e.dst) > 0 {
		p.parts = append(p.parts, planPart{ids: e.dst})
		e.dst = nil
	}
	if e.t.rewrites() {
		s = string(append([]byte(nil), s...))
	}
	p.parts = append(p.parts, planPart{text: s})
}

// rewrites says whether normalized text may lie in an encoder's buffer.
func (t *Tokenizer) rewrites() bool {
	n := &t.normalizer
	return n.nfc || len(n.steps) > 0 || n.prefix != prefixNever
}

// EncodeParallel is Encode with the work on long texts handed to spawn, at most
// workers times; spawn must run every function it is given, usually by a
// goroutine, and wait returns when all are done.
func (t *Tokenizer) EncodeParallel(dst []uint32, text string, addSpecial bool, workers int, spawn func(func()), wait func()) []uint32 {
	if workers < 2 || len(text) < 4*mostSegment {
		return t.Encode(dst, text, addSpecial)
	}
	text = validText(text)
	e := t.encoders.Get().(*encoder)
	p := &plan{}
	e.plan = p
	e.around(text, addSpecial)
	p.parts = append(p.parts, planPart{ids: e.dst})
	t.release(e)

	var next atomic.Int64
	for range min(workers, len(p.parts)) {
		spawn(func() {
			e := t.encoders.Get().(*encoder)
			for i := next.Add(1) - 1; i < int64(len(p.parts)); i = next.Add(1) - 1 {
				if part := &p.parts[i]; part.text != "" {
					e.dst = make([]uint32, 0, len(part.text)/3)
					e.segmentIDs(part.text)
					part.ids = e.dst
				}
			}
			t.release(e)
		})
	}
	wait()
	for _, part := range p.parts {
		dst = append(dst, part.ids...)
	}
	return dst
}
