package gateway

import (
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
)

// A worker that tells nothing of its blocks is believed to hold what it was sent
// for so long, and so many blocks of it, of all such workers together.
const (
	predictionTTL    = 2 * time.Minute
	predictionBlocks = 1 << 20
)

func newPredictions() *prefixindex.Predictions {
	return prefixindex.NewPredictions(predictionTTL, predictionBlocks)
}

// predictLocked adds to what the worker is known to hold of a prompt what it was
// sent of it, if it is one that tells nothing or has not told anything yet.
func (s *seat) predictLocked(c *router.Candidate, hashes []kv.Hash, now time.Time) {
	if !s.worker.Blind() {
		return
	}
	known := heldBlocks(c.Spans)
	if n := s.sent.Blocks(hashes, known, now) - known; n > 0 {
		c.Spans = append(slices.Clone(c.Spans), kv.Span{Blocks: n, Tiers: kv.Tiers(kv.GPU)})
		c.Predicted = n
	}
}

// sentLocked notes what the worker is sent.
func (s *seat) sentLocked(hashes []kv.Hash, now time.Time) {
	if s.worker.Blind() {
		s.sent.Sent(hashes, now)
	}
}
