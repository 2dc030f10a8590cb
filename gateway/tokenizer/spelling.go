package tokenizer

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// GPT-2 spells a byte as a printable character: itself where that is one, else
// U+0100 and up in order.
var (
	byteChar [256]rune
	charByte [324]int16 // -1: not such a character
)

func init() {
	for i := range charByte {
		charByte[i] = -1
	}
	next := rune(256)
	for b := range byteChar {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			byteChar[b] = rune(b)
		} else {
			byteChar[b] = next
			next++
		}
		charByte[byteChar[b]] = int16(b)
	}
}

// appendByteLevel appends the bytes that piece spells; false if it spells none.
func appendByteLevel(dst, piece []byte) ([]byte, bool) {
	for len(piece) > 0 {
		r, n := utf8.DecodeRune(piece)
		if r >= rune(len(charByte)) || charByte[r] < 0 {
			return dst, false
		}
		dst = append(dst, byte(charByte[r]))
		piece = piece[n:]
	}
	return dst, true
}

// appendSpaces appends piece with U+2581 as a space; false if it holds a
// literal space or is no UTF-8, which the text to be merged never does or is.
func appendSpaces(dst, piece []byte) ([]byte, bool) {
	if bytes.IndexByte(piece, ' ') >= 0 || !utf8.Valid(piece) {
		return dst, false
	}
	return append(dst, bytes.ReplaceAll(piece, []byte(spaceMark), []byte(" "))...), true
}

// spaced is a copy of s; of SentencePiece text, with U+2581 as a space.
func (t *Tokenizer) spaced(s string) string {
	if t.spm && strings.Contains(s, spaceMark) {
		return strings.ReplaceAll(s, spaceMark, " ")
	}
	return strings.Clone(s)
}

// outPieces prepares what every id becomes in text.
func (d *definition) outPieces(t *Tokenizer) {
	size := len(t.vocab.spans)
	for _, a := range t.added {
		size = max(size, int(a.id)+1)
	}
	t.pieces = make([]outPiece, size)
	same := d.decoder.byteLevel == d.byteLevel && !d.decoder.join
	for id := range t.pieces[:len(t.vocab.spans)] {
		piece := d.vocab.bytes(uint32(id))
		if len(piece) == 0 {
			continue
		}
		if _, isByte := bytePiece(piece); same && !isByte && t.mergeable(uint32(id)) {
			t.pieces[id] = outPiece{text: text(t.vocab.bytes(uint32(id))), kind: pieceText}
			continue
		}
		t.pieces[id] = d.outPiece(piece)
	}
	for name, a := range t.added {
		t.pieces[a.id] = d.outPiece([]byte(a.content))
		// The reference asks whether the piece's text is a special token's, so
		// one that the normalizer changes is never left out.
		changed := a.normalized && (a.content != name || d.markSpaces && strings.Contains(name, " "))
		t.pieces[a.id].special = a.special && !changed
	}
}

// outPiece decodes one piece as the model's decoder does: a byte-level piece
// that spells no bytes stands for itself.
func (d *definition) outPiece(piece []byte) outPiece {
	if d.decoder.join {
		return outPiece{text: string(piece), kind: pieceText}
	}
	if d.decoder.byteLevel {
		if b, ok := appendByteLevel(nil, piece); ok {
			return outPiece{text: string(b), kind: pieceText}
		}
		return outPiece{text: string(piece), kind: pieceText}
	}
	if b, ok := bytePiece(piece); ok && d.decoder.byteFallback {
		return outPiece{text: string([]byte{b}), kind: pieceByte}
	}
	return outPiece{text: strings.ReplaceAll(string(piece), spaceMark, " "), kind: pieceText}
}

// bytePiece reads "<0xHH>".
func bytePiece(piece []byte) (byte, bool) {
	if len(piece) != 6 || piece[0] != '<' || piece[1] != '0' || piece[2] != 'x' || piece[5] != '>' {
		return 0, false
	}
	hi, lo := hexDigit(piece[3]), hexDigit(piece[4])
	return hi<<4 | lo, hi < 16 && lo < 16
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xFF
}
