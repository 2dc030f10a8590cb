package gpu

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

// at is memory by its address, as the copy engine sees it. It is the tests' own,
// which keep it alive.
//
//go:nocheckptr
func at(addr, n uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), uintptr(addr))), n)
}

// carryOut does what a copy engine does with a call.
func carryOut(c *cuda.Copies) {
	for i := range c.Dst {
		copy(at(c.Dst[i], c.Len[i]), at(c.Src[i], c.Len[i]))
	}
	for _, r := range c.Rects {
		for row := range r.Rows {
			copy(at(r.Dst+row*r.DstPitch, r.Width), at(r.Src+row*r.SrcPitch, r.Width))
		}
	}
}

// randomLayout is fragments in an engine's memory: layers at equal or unequal
// distances, of equal or unequal sizes.
func randomLayout(r *rand.Rand, pages int) (memory []byte, fragments []Fragment) {
	sizes := []int{256, 4 << 10, 16 << 10, 24 << 10, 28 << 10, 64 << 10, 600 << 10, 3 << 20}
	bytes := sizes[r.IntN(len(sizes))]
	size := 0
	type place struct{ offset, stride, bytes int }
	var places []place
	for range 1 + r.IntN(20) {
		if r.IntN(4) == 0 {
			bytes = sizes[r.IntN(len(sizes)-1)]
		}
		stride := bytes
		if r.IntN(4) == 0 {
			stride += 16 * r.IntN(100)
		}
		if r.IntN(4) == 0 {
			size += 16 * r.IntN(1000)
		}
		places = append(places, place{size, stride, bytes})
		size += stride * pages
	}
	memory = make([]byte, size)
	for _, p := range places {
		fragments = append(fragments, Fragment{Base: cuda.HostAddr(memory[p.offset:]), Stride: uint64(p.stride), Bytes: p.bytes})
	}
	return memory, fragments
}

// pageBytes is a page as the fragments say, by the simplest means.
func pageBytes(fragments []Fragment, page int) (b []byte) {
	for _, f := range fragments {
		b = append(b, at(f.Base+uint64(page)*f.Stride, uint64(f.Bytes))...)
	}
	return b
}

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// However a layout is cut into calls, the pages get the blocks' bytes and
// nothing else is touched; and no copy goes through the compute engine.
func TestLayoutsAgainstTheOracle(t *testing.T) {
	r := trial.Rand(t)
	for range 60 {
		const pages = 3
		memory, fragments := randomLayout(r, pages)
		l, err := NewLayout(pages, fragments)
		if err != nil {
			t.Fatal(err)
		}
		fillRandom(r, memory[:min(len(memory), 1<<16)])
		block := make([]byte, l.BlockBytes())
		fillRandom(r, block[:min(len(block), 1<<16)])
		var want [pages][]byte
		for p := range pages {
			want[p] = pageBytes(fragments, p)
		}
		page := r.IntN(pages)
		want[page] = block
		run(t, r, l, true, []Transfer{{page, block}})
		for p := range pages {
			if !bytes.Equal(pageBytes(fragments, p), want[p]) {
				t.Fatalf("page %d of %d is wrong after a load of page %d; fragments %+v", p, pages, page, fragments)
			}
		}
		back := make([]byte, l.BlockBytes())
		other := r.IntN(pages)
		run(t, r, l, false, []Transfer{{other, back}})
		if !bytes.Equal(back, want[other]) {
			t.Fatalf("page %d was saved wrong; fragments %+v", other, fragments)
		}
		runtime.KeepAlive(memory) // known by its addresses only
	}
}

// run carries transfers out in calls of random sizes.
func run(t *testing.T, r *rand.Rand, l *Layout, toDevice bool, ts []Transfer) {
	t.Helper()
	var c cuda.Copies
	var at cursor
	for at.transfer < len(ts) {
		c.Reset()
		limit := 1 << (12 + r.IntN(12))
		l.add(&c, toDevice, ts, &at, limit, r.IntN(40))
		if c.Bytes == 0 || c.Bytes > max(limit, maxPiece) {
			t.Fatalf("a call of %d bytes where %d were wanted", c.Bytes, limit)
		}
		for _, n := range c.Len {
			if toDevice && n <= cuda.MaxComputeCopy {
				t.Fatalf("a plain load of %d bytes", n)
			}
		}
		for _, rect := range c.Rects {
			if toDevice && rect.Rows == 1 && rect.Width <= cuda.MaxComputeCopy {
				t.Fatalf("a load of one row of %d bytes", rect.Width)
			}
		}
		carryOut(&c)
	}
}

func TestLayoutsThatCannotBe(t *testing.T) {
	for name, f := range map[string][]Fragment{
		"none":            nil,
		"empty":           {{Base: 1 << 20, Stride: 0, Bytes: 0}},
		"pages overlap":   {{Base: 1 << 20, Stride: 100, Bytes: 200}},
		"an odd fragment": {{Base: 1 << 20, Stride: 101, Bytes: 101}},
	} {
		if l, err := NewLayout(2, f); err == nil {
			t.Errorf("%s: made %+v", name, l)
		}
	}
}

func TestPaceFollowsTheBudget(t *testing.T) {
	last := 0
	for _, budget := range []float64{0, 0.005, 0.012, 0.018, 0.02, 0.025, 0.5} {
		p := paceBeside(budget)
		if p.Calls != 1 || p.CallBytes < last {
			t.Errorf("budget %v: %+v", budget, p)
		}
		last = p.CallBytes
	}
	if last != 8<<20 || paceBeside(0).CallBytes != 2<<20 {
		t.Errorf("calls are of %d to %d bytes", paceBeside(0).CallBytes, last)
	}
}
