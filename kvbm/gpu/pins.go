package gpu

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/kvasir-ai/kvasir/cuda"
)

// pinBytes is what is pinned at a time: a load that comes before its slot is
// pinned waits for no more than that.
const pinBytes = 32 << 20

// pins is the host memory that the copy engines may reach.
type pins struct {
	mu      sync.Mutex
	ctx     *cuda.Context
	regions atomic.Pointer[[]*region]
}

// region is memory that is pinned chunk by chunk.
type region struct {
	mem    []byte
	chunk  int
	pinned []atomic.Bool
	over   atomic.Bool
	wg     sync.WaitGroup
}

// Pin makes memory usable for transfers. It begins to pin it in the background
// and returns at once; a transfer that comes earlier pins what it needs. No slot
// lies across two chunks, because a copy may not. The memory must stay mapped
// until Unpin or Close.
func (d *Device) Pin(mem []byte, slotBytes int) {
	p := &d.pins
	chunk := max(1, pinBytes/slotBytes) * slotBytes
	r := &region{mem: mem, chunk: chunk, pinned: make([]atomic.Bool, (len(mem)+chunk-1)/chunk)}
	p.mu.Lock()
	all := append(slices.Clone(p.list()), r)
	p.regions.Store(&all)
	p.mu.Unlock()
	r.wg.Go(func() {
		for i := range r.pinned {
			if r.over.Load() {
				return
			}
			if err := p.pin(r, i); err != nil {
				d.log.Warn("host memory cannot be pinned; transfers will try again (is the locked-memory limit high enough? ulimit -l unlimited)",
					"gpu", d.ordinal, "err", err)
				return
			}
		}
	})
}

func (r *region) at(i int) []byte { return r.mem[i*r.chunk : min((i+1)*r.chunk, len(r.mem))] }

func (p *pins) pin(r *region, i int) error {
	if r.pinned[i].Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.pinned[i].Load() {
		return nil
	}
	if p.ctx == nil {
		return ErrLost
	}
	if err := p.ctx.Register(r.at(i)); err != nil {
		return err
	}
	r.pinned[i].Store(true)
	return nil
}

// ensure pins the memory that b lies in.
func (p *pins) ensure(b []byte) error {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, r := range p.list() {
		from := at - uintptr(unsafe.Pointer(unsafe.SliceData(r.mem)))
		if from < uintptr(len(r.mem)) {
			return p.pin(r, int(from)/r.chunk)
		}
	}
	return fmt.Errorf("gpu: the slot of %d bytes is in no memory that Pin was called with", len(b))
}

// use pins in the context that begin makes from now on. What was pinned in the
// one before went with it. Nothing is pinned meanwhile.
func (p *pins) use(begin func() (*cuda.Context, error)) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.list() {
		for i := range r.pinned {
			r.pinned[i].Store(false)
		}
	}
	p.ctx, err = begin()
	return err
}

// lose makes sure that nothing is called in a lost context.
func (p *pins) lose() { _ = p.use(func() (*cuda.Context, error) { return nil, nil }) }

func (p *pins) list() []*region {
	if all := p.regions.Load(); all != nil {
		return *all
	}
	return nil
}

// Unpin undoes Pin of the same memory. No transfer may be using it.
func (d *Device) Unpin(mem []byte) error {
	return d.pins.unpin(func(r *region) bool { return &r.mem[0] == &mem[0] })
}

func (p *pins) close() error { return p.unpin(func(*region) bool { return true }) }

// unpin takes regions away.
func (p *pins) unpin(which func(*region) bool) error {
	p.mu.Lock()
	var kept, gone []*region
	for _, r := range p.list() {
		if which(r) {
			gone = append(gone, r)
		} else {
			kept = append(kept, r)
		}
	}
	p.regions.Store(&kept)
	p.mu.Unlock()
	var errs []error
	for _, r := range gone {
		r.over.Store(true)
		r.wg.Wait()
		for i := range r.pinned {
			if r.pinned[i].Load() {
				errs = append(errs, p.ctx.Unregister(r.at(i)))
			}
		}
	}
	return errors.Join(errs...)
}
