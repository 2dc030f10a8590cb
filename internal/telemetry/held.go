package telemetry

import (
	"io"
	"sync"
	"time"
)

const (
	heldBytes = 32 << 10
	heldFor   = 100 * time.Millisecond
)

// Held writes to another writer a little later, many writes in one. It is for
// what is written for each request and read by nobody at once.
type Held struct {
	w io.Writer

	mu    sync.Mutex
	buf   []byte
	timer *time.Timer // nil: nothing is held
}

// Hold makes a Held in front of w. Flush it at the end.
func Hold(w io.Writer) *Held { return &Held{w: w} }

// Write never fails: what w refuses later is lost, as with any log.
func (h *Held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, p...)
	if len(h.buf) >= heldBytes {
		h.flushLocked()
	} else if h.timer == nil {
		h.timer = time.AfterFunc(heldFor, h.Flush)
	}
	return len(p), nil
}

// Flush writes what is held.
func (h *Held) Flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flushLocked()
}

func (h *Held) flushLocked() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if len(h.buf) > 0 {
		_, _ = h.w.Write(h.buf)
		h.buf = h.buf[:0]
	}
}
