package gpu

import (
	"errors"
	"fmt"

	"github.com/kvasir-ai/kvasir/cuda"
)

// Fragment is one contiguous part of every page: that of page p is Bytes long
// and begins at Base + p*Stride.
type Fragment struct {
	Base, Stride uint64
	Bytes        int
}

const (
	// maxPiece is how large a plain copy may be, so that calls can be cut where
	// the throttle wants it.
	maxPiece = 2 << 20
	// maxPitch is the driver's limit for rows.
	maxPitch = 1<<31 - 1
)

// Layout says where a block's bytes are in the engine's memory: the fragments
// of its page, one after another. A Layout does not change.
type Layout struct {
	pages      int
	blockBytes int
	pieces     []piece
}

// piece is what one copy moves of a page: bytes in a row, or rows.
type piece struct {
	base, stride uint64
	host         int // offset in the block
	width        int
	rows         int
	pitch        uint64 // from row to row, of several
}

func (p *piece) bytes() int { return p.width * p.rows }

// NewLayout works out how pages of the given fragments are copied.
func NewLayout(pages int, fragments []Fragment) (*Layout, error) {
	if pages <= 0 || len(fragments) == 0 {
		return nil, errors.New("gpu: a layout needs pages and fragments")
	}
	l := &Layout{pages: pages}
	for i, f := range join(fragments) {
		if f.Bytes <= 0 || f.Stride < uint64(f.Bytes) && pages > 1 {
			return nil, fmt.Errorf("gpu: fragment %d of %d bytes with a stride of %d overlaps the next page's", i, f.Bytes, f.Stride)
		}
		if !l.asRow(f) {
			l.asCopies(f)
		}
		l.blockBytes += f.Bytes
	}
	for _, p := range l.pieces {
		if p.rows == 1 && p.width <= cuda.MaxComputeCopy {
			return nil, fmt.Errorf("gpu: a fragment of %d bytes stands alone; loads of %d bytes or fewer need several at equal distances "+
				"(give the engine one KV allocation, or larger blocks)", p.width, cuda.MaxComputeCopy)
		}
	}
	return l, nil
}

// join makes one fragment of those that follow each other in memory on every
// page.
func join(fragments []Fragment) (joined []Fragment) {
	for _, f := range fragments {
		if n := len(joined); n > 0 {
			last := &joined[n-1]
			if last.Base+uint64(last.Bytes) == f.Base && last.Stride == f.Stride {
				last.Bytes += f.Bytes
				continue
			}
		}
		joined = append(joined, f)
	}
	return joined
}

// asRow adds a small fragment to the rows before it, or begins new ones.
func (l *Layout) asRow(f Fragment) bool {
	if f.Bytes > cuda.MaxComputeCopy {
		return false
	}
	if n := len(l.pieces); n > 0 {
		last := &l.pieces[n-1]
		end := last.base + uint64(last.rows-1)*last.pitch
		pitch := f.Base - end
		fits := last.width == f.Bytes && last.stride == f.Stride && f.Base > end && pitch <= maxPitch
		if fits && (last.rows == 1 || last.pitch == pitch) {
			last.rows, last.pitch = last.rows+1, pitch
			return true
		}
	}
	l.pieces = append(l.pieces, piece{base: f.Base, stride: f.Stride, host: l.blockBytes, width: f.Bytes, rows: 1})
	return true
}

// asCopies adds plain copies of a large fragment, of about the same size.
func (l *Layout) asCopies(f Fragment) {
	n := (f.Bytes + maxPiece - 1) / maxPiece
	for i := range n {
		from, to := f.Bytes*i/n, f.Bytes*(i+1)/n
		l.pieces = append(l.pieces, piece{
			base: f.Base + uint64(from), stride: f.Stride, host: l.blockBytes + from, width: to - from, rows: 1,
		})
	}
}

// BlockBytes is the size of a block: of all fragments of a page.
func (l *Layout) BlockBytes() int { return l.blockBytes }

// Pages is the number of pages.
func (l *Layout) Pages() int { return l.pages }

// Transfer is one block: a page of the engine and a host slot.
type Transfer struct {
	Page int
	Host []byte
}

func (l *Layout) check(ts []Transfer) error {
	for _, t := range ts {
		if t.Page < 0 || t.Page >= l.pages {
			return fmt.Errorf("gpu: the engine has pages 0 to %d, not %d", l.pages-1, t.Page)
		}
		if len(t.Host) < l.blockBytes {
			return fmt.Errorf("gpu: a host slot of %d bytes is too small for a block of %d", len(t.Host), l.blockBytes)
		}
	}
	return nil
}

// cursor is how far a request's transfers have been submitted.
type cursor struct{ transfer, piece int }

// add fills a call with pieces from the cursor on, until it has the given
// number of bytes or the transfers end. It always adds one.
func (l *Layout) add(c *cuda.Copies, toDevice bool, ts []Transfer, at *cursor, bytes int) {
	for at.transfer < len(ts) && (c.Bytes == 0 || c.Bytes+l.pieces[at.piece].bytes() <= bytes) {
		t, p := ts[at.transfer], &l.pieces[at.piece]
		dev, host := p.base+uint64(t.Page)*p.stride, cuda.HostAddr(t.Host[p.host:])
		switch {
		case p.rows > 1 && toDevice:
			c.AddRect(cuda.Rect{Dst: dev, Src: host, Width: uint64(p.width), Rows: uint64(p.rows), DstPitch: p.pitch, SrcPitch: uint64(p.width)})
		case p.rows > 1:
			c.AddRect(cuda.Rect{Dst: host, Src: dev, Width: uint64(p.width), Rows: uint64(p.rows), DstPitch: uint64(p.width), SrcPitch: p.pitch})
		case toDevice:
			c.Add(dev, host, p.width)
		default:
			c.Add(host, dev, p.width)
		}
		if at.piece++; at.piece == len(l.pieces) {
			*at = cursor{transfer: at.transfer + 1}
		}
	}
}
