package tokenizer

import (
	"errors"
	"slices"
	"sync"
	"unicode/utf8"
)

// ErrUnsupported marks a tokenizer that this package cannot run exactly. The
// caller's way out is the engine's own /tokenize.
var ErrUnsupported = errors.New("unsupported tokenizer")

// ErrTooCostly marks a text that a split pattern without a scanner takes too much
// time or memory to split, or might. The caller's way out is the same.
var ErrTooCostly = errors.New("the text is too costly to split by a pattern that has no scanner")

// Tokenizer encodes and decodes for one model. It is immutable and safe for
// concurrent use.
type Tokenizer struct {
	vocab    *vocab // pieces as text: bytes for byte-level, spaces for U+2581
	merges   *mergeTable
	words    *wordTable // words that are one piece, proven at load
	stages   []stage
	cuts     *cutFilter  // nil if nothing can be proven
	runes    *runeStarts // byte-level: nil if nothing can be proven
	cache    *segmentCache
	newlines newlineCuts // where text may be cut; see segments.go

	spm          bool
	splitSpaces  bool // SentencePiece: every space begins a word (Metaspace)
	ignoreMerges bool
	unproven     []bool // under ignoreMerges: pieces that merging does not give
	byteFallback bool
	fuseUnknown  bool
	unknown      uint32
	byteID       [256]uint32 // of single bytes, or of the byte-fallback pieces
	lacksBytes   bool        // byte-level: some bytes have no piece, and nothing stands for them
	asciiID      [128]uint32 // SentencePiece: of single ASCII runes
	asciiCuts    *asciiCuts  // SentencePiece
	unmergeable  map[uint32]bool

	normalizer normalizer
	suspects   *[0x110000 / 64]uint64 // see isNFC
	raw        *matcher               // added tokens found in the raw text
	normalized *matcher               // and in the normalized text
	added      map[string]addedToken

	prefix, suffix []uint32 // what addSpecial puts around the text

	pieces  []outPiece
	decoder decoderRules

	eos      []uint32
	bos      uint32
	specials map[string]string
	template string
	encoders sync.Pool
}

// Encode appends the ids of text to dst. Added tokens in the text are parsed as
// such; addSpecial adds what the model's post-processor adds (BOS, EOS).
// Invalid UTF-8 is read as U+FFFD, one for each maximal invalid part. Of a text that
// TryEncode refuses, nothing is appended.
func (t *Tokenizer) Encode(dst []uint32, text string, addSpecial bool) []uint32 {
	dst, _ = t.TryEncode(dst, text, addSpecial)
	return dst
}

// TryEncode is Encode that says ErrTooCostly. Only a tokenizer whose pattern runs
// on the regex engine ever does.
func (t *Tokenizer) TryEncode(dst []uint32, text string, addSpecial bool) ([]uint32, error) {
	text = validText(text)
	e := t.acquire(room(dst, text))
	e.around(text, addSpecial)
	return t.release(e, dst)
}

// TryEncodePlain is TryEncode of text in which nothing is an added token, whatever
// it looks like.
func (t *Tokenizer) TryEncodePlain(dst []uint32, text string) ([]uint32, error) {
	text = validText(text)
	if text == "" {
		return dst, nil
	}
	e := t.acquire(room(dst, text))
	s := e.normalize(text)
	if t.normalized != nil {
		s = t.spaced(s)
	}
	e.plain(s, true)
	return t.release(e, dst)
}

// room is dst with space for the ids that text may become, if it is long: most
// have four bytes or more.
func room(dst []uint32, text string) []uint32 {
	if n := len(text) / 4; n > cap(dst)-len(dst) {
		return slices.Grow(dst, n)
	}
	return dst
}

// Forget empties the caches of words and segments, so that the next call encodes
// as if it were the first: for measurements. Calls that run meanwhile keep theirs.
func (t *Tokenizer) Forget() {
	e := t.encoders.Get().(*encoder)
	clear(e.short[:])
	clear(e.long[:])
	t.encoders.Put(e)
	for i := range t.cache.slots {
		for j := range t.cache.slots[i] {
			t.cache.held.Add(-size(t.cache.slots[i][j].Swap(nil)))
		}
	}
}

// around encodes text with what addSpecial puts around it.
func (e *encoder) around(text string, addSpecial bool) {
	if addSpecial {
		e.dst = append(e.dst, e.t.prefix...)
	}
	e.encode(text)
	if addSpecial {
		e.dst = append(e.dst, e.t.suffix...)
	}
}

// validText replaces what is no UTF-8.
func validText(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string(appendLossy(nil, text))
}

// acquire is an encoder that appends to dst.
func (t *Tokenizer) acquire(dst []uint32) *encoder {
	e := t.encoders.Get().(*encoder)
	e.dst, e.err, e.regexLeft = dst, nil, maxRegexBytes
	return e
}

// release puts e back, without the scratch memory that one huge word left, and is
// the call's answer.
func (t *Tokenizer) release(e *encoder, dst []uint32) ([]uint32, error) {
	const keep = 1 << 20
	if e.err == nil {
		dst = e.dst
	}
	if cap(e.ids) > keep || cap(e.buf) > 4*keep || cap(e.piece) > 4*keep {
		e.ids, e.next, e.prev, e.heap, e.buf, e.piece = nil, nil, nil, nil, nil, nil
	}
	err := e.err
	e.dst = nil
	t.encoders.Put(e)
	return dst, err
}

// encode finds the added tokens of the raw text and encodes what lies between.
func (e *encoder) encode(s string) {
	start, from := 0, 0
	for e.t.raw != nil {
		at, scanned, end, token := e.t.raw.find(s, from, start)
		if token == nil {
			break
		}
		if start < at {
			e.segment(s[start:at], start == 0)
		}
		e.dst = append(e.dst, token.id)
		start, from = end, scanned
	}
	if start < len(s) {
		e.segment(s[start:], start == 0)
	}
}

// segment encodes raw text without raw added tokens; first says that it begins
// the whole text.
func (e *encoder) segment(s string, first bool) {
	t := e.t
	s = e.normalize(s)
	if t.normalized == nil {
		e.plain(s, first)
		return
	}
	s = t.spaced(s) // a copy: plain may reuse the normalizer's buffer
	start, from := 0, 0
	for {
		at, scanned, end, token := t.normalized.find(s, from, start)
		if token == nil {
			break
		}
		if start < at {
			e.plain(s[start:at], first && start == 0)
		}
		e.dst = append(e.dst, token.id)
		start, from = end, scanned
	}
	if start < len(s) {
		e.plain(s[start:], first && start == 0)
	}
}

// plain encodes normalized text that holds no added token; first says that it
// begins the whole text.
func (e *encoder) plain(s string, first bool) {
	if s == "" {
		return
	}
	s = e.prefix(s, first)
	if len(s) >= leastCached {
		e.segments(s)
		return
	}
	e.splitOrMerge(s)
}

// splitOrMerge encodes s as one text.
func (e *encoder) splitOrMerge(s string) {
	if e.t.spm {
		e.encodeSPM(s)
		return
	}
	e.split(s, e.t.stages)
}

// split runs the stages, each on the pieces of the one before.
func (e *encoder) split(s string, stages []stage) {
	if len(stages) == 0 {
		e.word(s, 0, len(s))
		return
	}
	stage, rest := &stages[0], stages[1:]
	if stage.regex != nil {
		for _, piece := range e.pieces(stage, s) {
			e.split(piece, rest)
		}
		return
	}
	if len(rest) > 0 {
		for i := 0; i < len(s); {
			end := stage.scan(s, i)
			e.split(s[i:end], rest)
			i = end
		}
		return
	}
	e.words(s, stage.scan, stage.bound)
}

// mergeable says whether id is a piece that merging can give.
func (t *Tokenizer) mergeable(id uint32) bool { return !t.unmergeable[id] }

// VocabSize is one more than the largest id.
func (t *Tokenizer) VocabSize() int { return len(t.pieces) }

// Token is the text of one piece: its bytes, which need not be whole UTF-8.
func (t *Tokenizer) Token(id uint32) (string, bool) {
	if int(id) >= len(t.pieces) || t.pieces[id].kind == pieceHole {
		return "", false
	}
	return t.pieces[id].text, true
}

// ID finds a piece by its text.
func (t *Tokenizer) ID(token string) (uint32, bool) {
	if a, ok := t.added[token]; ok {
		return a.id, true
	}
	if token == "" {
		return 0, false
	}
	id := t.vocab.id(view(token))
	return id, id != none
}

// IsSpecial says whether id is a special token, one that SkipSpecial leaves out.
func (t *Tokenizer) IsSpecial(id uint32) bool {
	return int(id) < len(t.pieces) && t.pieces[id].special
}

// EOS lists the ids that end a generation.
func (t *Tokenizer) EOS() []uint32 { return t.eos }

// BOS is the id that begins a prompt.
func (t *Tokenizer) BOS() (uint32, bool) { return t.bos, t.bos != none }

// ChatTemplate is the model's Jinja source, empty if it has none.
func (t *Tokenizer) ChatTemplate() string { return t.template }

// SpecialTokens maps bos_token, eos_token and so on to their text.
func (t *Tokenizer) SpecialTokens() map[string]string { return t.specials }
