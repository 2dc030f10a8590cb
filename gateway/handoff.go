package gateway

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// handoff is what is known of the way into a decode worker's memory: how long KV
// took to come, and whether it came at all. The zero handoff knows nothing.
type handoff struct {
	// met are the prefill workers, in which of their lives, that KV came from: the
	// first time a connection is built, which tells nothing of the next.
	met map[kv.WorkerID]uint64
	fit linearFit
	at  time.Time // of the last that was learned from; zero: never
	// failed counts those in a row that did not get across, and until is when the
	// next may try after too many.
	failed int
	until  time.Time
}

const (
	// assumedTokenBytes is taken for the KV of a token where no agent tells: that
	// of an 8B model. What is learned makes up for it.
	assumedTokenBytes = 128 << 10
	// handoffMemory is how long what was learned is believed without use: a way
	// that is believed to be slow is not used, and so never learned to be fast.
	handoffMemory = 2 * time.Minute
	handoffFade   = 0.9 // of the older's weight, for each learned
	// mostSlower bounds what one may take over its prediction to be believed.
	mostSlower = 4
	// fewestFailed in a row close the way for handoffPause.
	fewestFailed = 3
	handoffPause = 10 * time.Second
)

// hopefulHandoff is the way in until it was used.
var hopefulHandoff = router.Link{LatencyMS: 5, BytesPerMS: 4e6}

// learnHandoffLocked takes in that KV of so many bytes came from a prefill worker
// in ms.
func (s *seat) learnHandoffLocked(from *placement, bytes, ms float64, now time.Time) {
	h := &s.handoff
	h.failed, h.until = 0, time.Time{}
	life := from.worker.Life()
	if h.met == nil {
		h.met = map[kv.WorkerID]uint64{}
	}
	if known, ok := h.met[from.worker.ID()]; !ok || known != life {
		h.met[from.worker.ID()] = life
		return
	}
	if h.at.IsZero() {
		h.fit = hopefulFit()
	}
	fixed, slope := h.fit.line()
	ms = min(max(ms, 0), mostSlower*(fixed+slope*bytes))
	h.fit.fade(handoffFade)
	h.fit.add(bytes, ms)
	h.at = now
	fixed, slope = h.fit.line()
	s.speeds.SetLink(kv.GPU, router.Link{LatencyMS: fixed, BytesPerMS: 1 / slope})
}

// handoffFailedLocked takes in that KV did not get across.
func (s *seat) handoffFailedLocked(now time.Time) {
	if s.handoff.failed++; s.handoff.failed >= fewestFailed {
		s.handoff.failed, s.handoff.until = 0, now.Add(handoffPause)
	}
}

// handoffBlockBytes is the KV of a block, assumed where no agent tells.
func (s *seat) handoffBlockBytes(r *router.Rates) int {
	if r.BlockBytes > 0 {
		return r.BlockBytes
	}
	return assumedTokenBytes * max(1, s.worker.Known().BlockSize)
}

// wayInLocked completes the rates of a decode worker.
func (s *seat) wayInLocked(r *router.Rates, now time.Time) {
	r.BlockBytes = s.handoffBlockBytes(r)
	h := &s.handoff
	switch {
	case now.Before(h.until):
		r.Handoff = router.Link{}
	case h.at.IsZero() || now.Sub(h.at) > handoffMemory:
		h.at = time.Time{}
		r.Handoff = hopefulHandoff
	}
}

// linearFit is a weighted least squares fit of y = fixed + slope·x.
type linearFit struct{ w, x, y, xx, xy float64 }

// hopefulFit has the hopeful link for its only observations.
func hopefulFit() (f linearFit) {
	for _, bytes := range [...]float64{1 << 20, 32 << 20} {
		f.add(bytes, hopefulHandoff.LatencyMS+bytes/hopefulHandoff.BytesPerMS)
	}
	return f
}

func (f *linearFit) add(x, y float64) {
	f.w, f.x, f.y, f.xx, f.xy = f.w+1, f.x+x, f.y+y, f.xx+x*x, f.xy+x*y
}

func (f *linearFit) fade(by float64) {
	f.w, f.x, f.y, f.xx, f.xy = f.w*by, f.x*by, f.y*by, f.xx*by, f.xy*by
}

// line is what fits best of the lines that neither fall nor begin below zero.
func (f *linearFit) line() (fixed, slope float64) {
	const least = 1e-12 // a thousand terabytes a second
	mean := f.y / f.w
	if spread := f.w*f.xx - f.x*f.x; spread > 0 {
		slope = (f.w*f.xy - f.x*f.y) / spread
	}
	slope = max(slope, least)
	if fixed = mean - slope*f.x/f.w; fixed < 0 {
		fixed, slope = 0, max(f.xy/f.xx, least)
	}
	return fixed, slope
}
