package host

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// touchBytes is what one thread makes present at a time.
const touchBytes = 32 << 20

type touching struct {
	wg   sync.WaitGroup
	next atomic.Int64
	stop atomic.Bool
}

func (t *touching) end() {
	t.stop.Store(true)
	t.wg.Wait()
}

// Touch makes every page present, from the first slot on, with all cores and in
// the background: the kernel clears pages at a few GB a second per core, and
// whoever pins the pool, or fills it first, would wait for that. It is called
// once at most. What the pages hold does not change.
func (m *Memory) Touch() {
	for range runtime.NumCPU() {
		m.touching.wg.Go(func() {
			for !m.touching.stop.Load() {
				at := m.touching.next.Add(touchBytes) - touchBytes
				if at >= int64(len(m.data)) {
					return
				}
				// It fails on kernels before 5.14, and then first use does it.
				if unix.Madvise(m.data[at:min(at+touchBytes, int64(len(m.data)))], unix.MADV_POPULATE_WRITE) != nil {
					return
				}
			}
		})
	}
}

// Touched waits until Touch has ended.
func (m *Memory) Touched() { m.touching.wg.Wait() }
