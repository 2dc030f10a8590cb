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
	// maxPiece is how much one piece may be, so that calls can be cut where the
	// throttle wants it.
	maxPiece = 2 << 20
	// maxRow is below what is worth to be a row: of larger fragments a call has
	// too few to care.
	maxRow = 512 << 10
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

// piece is a part of a page: bytes in a row, or rows at equal distances.
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
	for i := range l.pieces {
		// A small fragment that stands alone becomes two rows, or its load would
		// go through the compute engine.
		if p := &l.pieces[i]; p.rows == 1 && p.width <= cuda.MaxComputeCopy {
			if p.width%2 != 0 {
				return nil, fmt.Errorf("gpu: a fragment of %d bytes, an odd number, cannot be cut into two rows", p.width)
			}
			p.width, p.rows, p.pitch = p.width/2, 2, uint64(p.width/2)
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

// asRow adds a fragment to the rows before it, or begins new ones.
func (l *Layout) asRow(f Fragment) bool {
	if f.Bytes > maxRow {
		return false
	}
	if n := len(l.pieces); n > 0 {
		last := &l.pieces[n-1]
		end := last.base + uint64(last.rows-1)*last.pitch
		pitch := f.Base - end
		fits := last.width == f.Bytes && last.stride == f.Stride && f.Base > end && pitch <= maxPitch && last.bytes()+f.Bytes <= maxPiece
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
// number of bytes or the transfers end. It always adds one. Rows may be copied
// one by one, which the copy engine does faster and costs the CPU more, as long
// as the call has no more than plain such copies.
func (l *Layout) add(c *cuda.Copies, toDevice bool, ts []Transfer, at *cursor, bytes, plain int) {
	for at.transfer < len(ts) && (c.Bytes == 0 || c.Bytes+l.pieces[at.piece].bytes() <= bytes) {
		t, p := ts[at.transfer], &l.pieces[at.piece]
		dev, host := p.base+uint64(t.Page)*p.stride, cuda.HostAddr(t.Host[p.host:])
		p.addTo(c, toDevice, dev, host, plain)
		if at.piece++; at.piece == len(l.pieces) {
			*at = cursor{transfer: at.transfer + 1}
		}
	}
}

func (p *piece) addTo(c *cuda.Copies, toDevice bool, dev, host uint64, plain int) {
	single := p.rows
	if p.rows > 1 {
		single = max(0, min(p.rows, plain-len(c.Dst)))
		if p.width <= cuda.MaxComputeCopy {
			single = 0
		}
	}
	for range single {
		if toDevice {
			c.Add(dev, host, p.width)
		} else {
			c.Add(host, dev, p.width)
		}
		dev, host = dev+p.pitch, host+uint64(p.width)
	}
	if rows := p.rows - single; rows > 0 {
		r := cuda.Rect{Dst: host, Src: dev, Width: uint64(p.width), Rows: uint64(rows), DstPitch: uint64(p.width), SrcPitch: p.pitch}
		if toDevice {
			r.Dst, r.Src, r.DstPitch, r.SrcPitch = r.Src, r.Dst, r.SrcPitch, r.DstPitch
		}
		c.AddRect(r)
	}
}
