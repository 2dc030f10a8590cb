package tokenizer

import (
	"bytes"
	"unicode/utf8"
)

// outPiece is what an id becomes in text.
type outPiece struct {
	text    string
	kind    pieceKind
	special bool
}

type pieceKind uint8

const (
	pieceHole pieceKind = iota // no such id; no text
	pieceText
	pieceByte // a byte-fallback piece; its text is that byte
)

// decoderRules is what joins the pieces' texts.
type decoderRules struct {
	byteLevel    bool // pieces are bytes; UTF-8 may span them
	byteFallback bool // pieces like <0x0A> are bytes
	join         bool // no decoder: pieces are joined by spaces
	strip        int  // spaces taken off the front of the text
	bareFirst    bool // Metaspace: the first piece loses its spaces
}

// DecoderOptions says how a stream of ids becomes text.
type DecoderOptions struct {
	SkipSpecial bool     // leave special tokens out of the text
	Stop        []string // end at the first of these
	IncludeStop bool     // keep the stop string in the text
	// Continuation says that the ids follow a prompt: the space that
	// SentencePiece puts at the very front of a text is then not taken off.
	Continuation bool
}

// Decoder turns a stream of ids into text, in time proportional to each id's
// text. What it returns never changes later: it holds back an unfinished UTF-8
// sequence (at most 3 bytes; with byte fallback the run of byte pieces, which
// is valid or not as a whole) and the longest tail that may begin a stop string.
type Decoder struct {
	t       *Tokenizer
	o       DecoderOptions
	started bool   // a piece has been seen
	strip   int    // leading spaces still to be taken off
	bytes   []byte // UTF-8 in progress
	out     []byte // text not yet returned
	stops   []stopState
	scanned int // of out, bytes seen by the stop strings
	stopped bool
}

// NewDecoder starts a stream.
func (t *Tokenizer) NewDecoder(o DecoderOptions) *Decoder {
	d := &Decoder{t: t, o: o, started: o.Continuation}
	if !o.Continuation {
		d.strip = t.decoder.strip
	}
	for _, s := range o.Stop {
		if s != "" {
			d.stops = append(d.stops, newStopState(s))
		}
	}
	return d
}

// Push adds one id and returns the text that has become certain. stopped says
// that a stop string has been met: the text ends there.
func (d *Decoder) Push(id uint32) (text string, stopped bool) {
	if d.stopped {
		return "", true
	}
	d.add(id)
	return d.take(false), d.stopped
}

// Flush ends the stream and returns what was held back.
func (d *Decoder) Flush() string {
	if d.stopped {
		return ""
	}
	d.finish()
	return d.take(true)
}

// Decode appends the text of ids to dst.
func (t *Tokenizer) Decode(dst []byte, ids []uint32, skipSpecial bool) []byte {
	d := Decoder{t: t, o: DecoderOptions{SkipSpecial: skipSpecial}, strip: t.decoder.strip, out: dst}
	for _, id := range ids {
		d.add(id)
	}
	d.finish()
	return d.out
}

// add appends what id makes certain to d.out.
func (d *Decoder) add(id uint32) {
	if int(id) >= len(d.t.pieces) {
		return
	}
	p := &d.t.pieces[id]
	if p.kind == pieceHole || p.special && d.o.SkipSpecial {
		return
	}
	rules := &d.t.decoder
	first := !d.started
	d.started = true
	if rules.byteLevel {
		d.addBytes(p.text)
		return
	}
	if p.kind == pieceByte {
		d.bytes = append(d.bytes, p.text...)
		return
	}
	d.endBytes()
	switch {
	case rules.join && !first:
		d.out = append(d.out, ' ')
	case rules.bareFirst && first:
		d.out = append(d.out, bytes.ReplaceAll([]byte(p.text), []byte(" "), nil)...)
		return
	}
	d.write(p.text)
}

// write appends text less the spaces that are to be taken off the front.
func (d *Decoder) write(s string) {
	for d.strip > 0 && s != "" {
		if s[0] != ' ' {
			d.strip = 0
			break
		}
		s = s[1:]
		d.strip--
	}
	d.out = append(d.out, s...)
}

// addBytes appends bytes of a byte-level piece.
func (d *Decoder) addBytes(s string) {
	if len(d.bytes) == 0 && utf8.ValidString(s) {
		d.out = append(d.out, s...)
		return
	}
	d.bytes = append(d.bytes, s...)
	b := d.bytes
	for len(b) > 0 {
		n, valid, partial := sequence(b)
		if partial {
			break
		}
		if valid {
			d.out = append(d.out, b[:n]...)
		} else {
			d.out = utf8.AppendRune(d.out, utf8.RuneError)
		}
		b = b[n:]
	}
	d.bytes = d.bytes[:copy(d.bytes, b)]
}

// endBytes decides a run of byte-fallback pieces: if it is not UTF-8 as a
// whole, each of its bytes reads as U+FFFD.
func (d *Decoder) endBytes() {
	if len(d.bytes) == 0 {
		return
	}
	if utf8.Valid(d.bytes) {
		d.write(string(d.bytes))
	} else {
		for range d.bytes {
			d.write("\uFFFD")
		}
	}
	d.bytes = d.bytes[:0]
}

func (d *Decoder) finish() {
	if d.t.decoder.byteLevel {
		d.out = appendLossy(d.out, d.bytes)
		d.bytes = d.bytes[:0]
		return
	}
	d.endBytes()
}

// take returns the part of d.out that no stop string can still claim.
func (d *Decoder) take(last bool) string {
	held := 0
	for ; d.scanned < len(d.out); d.scanned++ {
		if start, ok := d.advance(d.out[d.scanned], d.scanned+1); ok {
			d.stopped = true
			end := start
			if d.o.IncludeStop {
				end = d.scanned + 1
			}
			return string(d.out[:end])
		}
	}
	if !last {
		for i := range d.stops {
			held = max(held, d.stops[i].matched)
		}
	}
	n := len(d.out) - held
	s := string(d.out[:n])
	d.out = d.out[:copy(d.out, d.out[n:])]
	d.scanned = held
	return s
}

// advance shows one byte to every stop string; end is the offset after it. If
// some end here, start is where the longest of them began.
func (d *Decoder) advance(b byte, end int) (start int, ok bool) {
	longest := 0
	for i := range d.stops {
		if s := &d.stops[i]; s.advance(b) {
			longest = max(longest, len(s.text))
		}
	}
	return end - longest, longest > 0
}

// stopState matches one stop string byte by byte (Knuth, Morris and Pratt).
type stopState struct {
	text    string
	border  []int // of text[:i+1], the longest proper prefix that is also its suffix
	matched int
}

func newStopState(s string) stopState {
	border := make([]int, len(s))
	for i, k := 1, 0; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = border[k-1]
		}
		if s[i] == s[k] {
			k++
		}
		border[i] = k
	}
	return stopState{text: s, border: border}
}

func (s *stopState) advance(b byte) bool {
	for s.matched > 0 && s.text[s.matched] != b {
		s.matched = s.border[s.matched-1]
	}
	if s.text[s.matched] == b {
		s.matched++
	}
	return s.matched == len(s.text)
}
