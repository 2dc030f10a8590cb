package tokenizer

import (
	"hash/maphash"
	"sync/atomic"
)

// Long text is encoded in segments, cut where that is proven exact, and the ids
// of a segment are remembered under its content. A conversation that grows, or
// is edited, is then encoded anew only where it changed.
//
// Where text may be cut:
//   - At added tokens: what lies between two is normalized, split and merged on
//     its own. The caller has cut there already.
//   - Byte-level, after a newline, if the run of spaces that follows holds no
//     further newline, for patterns with newlineCuts: there every alternative
//     that can match a newline ends at the last one of the run, none crosses it
//     and none looks behind. (Not true of GPT-2's pattern, whose \s+(?!\S) runs
//     on.) A '/' must not follow where a pattern takes it along with newlines.
//   - SentencePiece: after a newline that no piece joins to what follows.
const (
	leastSegment = 1 << 10 // bytes; shorter ones are not worth cutting off
	mostSegment  = 8 << 10 // from here on, every cut that may be made is made
	leastCached  = 1 << 8
	cacheSlots   = 1 << 12
)

// segmentCache is direct-mapped, without locks: a slot holds the segment that
// was encoded last of those that map to it.
type segmentCache struct {
	seeds [2]maphash.Seed
	slots [cacheSlots]atomic.Pointer[segment]
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
	slot := &c.slots[name[0]%cacheSlots]
	if hit := slot.Load(); hit != nil && hit.name == name {
		e.dst = append(e.dst, hit.ids...)
		return
	}
	start := len(e.dst)
	e.splitOrMerge(s)
	if len(s) <= 4*mostSegment {
		slot.Store(&segment{name, append([]uint32(nil), e.dst[start:]...)})
	}
}

// nextCut is the end of the segment that s begins with. Cuts depend on the text
// around them and not only on where the last one was, so that they fall into
// place again after an edit.
func (t *Tokenizer) nextCut(s string) int {
	if !t.cuttable {
		return len(s)
	}
	for i := leastSegment; i < len(s); i++ {
		if s[i-1] != '\n' {
			continue
		}
		here := i < mostSegment && pack(s, i-8, i).hash()>>61 != 0
		if !here && t.cutAfterNewline(s, i) {
			return i
		}
	}
	return len(s)
}

// cutAfterNewline says whether s, whose byte before i is a newline, may be cut
// at i.
func (t *Tokenizer) cutAfterNewline(s string, i int) bool {
	if t.spm {
		r, _ := spmRune(s, i)
		return !t.cuts.joined('\n', r, '\n', s[i])
	}
	if t.slash && s[i] == '/' {
		return false
	}
	for i < len(s) {
		class, n := classAt(s, i)
		if class&classSpace == 0 {
			return true
		}
		if s[i] == '\n' || s[i] == '\r' {
			return false
		}
		i += n
	}
	return true
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
