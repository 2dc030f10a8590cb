package router

import (
	"math"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Calibration keeps each worker's rates as observed. Workers of a fleet serve
// the same model, so what a prefill costs has one shape, learned from all of
// them; each has a pace of its own, which a few prefills tell. Were each to learn
// a shape of its own, then long prompts, of which each sees few, would look
// cheaper here than there by accident, and wait in the wrong queue. A worker that
// has computed nothing yet is taken to be like the others.
type Calibration struct {
	defaults Rates
	shape    prefillFit // of every worker's prefills, at pace 1
	paces    paces
	workers  map[kv.WorkerID]*Speeds
	observed uint64 // prefills, of all
}

// Speeds are what is known of one worker. They stay the worker's until Forget,
// so that those who decide often need not look them up each time.
type Speeds struct {
	rates    Rates
	pace     pace
	fleet    *Calibration
	observed uint64 // of the fleet's prefills, the number of this one's last
	fitted   int    // of the shape's updates, the one that rates were filled from
	errors   ErrorStats
}

// mostBehind is how much work may have joined behind a prefill that is learned
// from, as a share of its time.
const mostBehind = 0.1

// NewCalibration starts from defaults.
func NewCalibration(defaults Rates) *Calibration {
	return &Calibration{defaults: defaults, shape: newPrefillFit(defaults), workers: map[kv.WorkerID]*Speeds{}}
}

// Rates are w's rates as known now.
func (c *Calibration) Rates(w kv.WorkerID) Rates {
	if k := c.workers[w]; k != nil {
		return *k.Rates()
	}
	r := c.defaults
	c.shape.fill(&r, c.paces.usual())
	return r
}

// Rates are the worker's rates as known now; they are good until the next call
// to the calibration, and only to read.
func (k *Speeds) Rates() *Rates {
	if c := k.fleet; k.fitted != c.shape.updates {
		k.fitted = c.shape.updates
		c.shape.fill(&k.rates, c.times(k))
	}
	return &k.rates
}

// ObservePrefill learns from a prefill on w that computed the last tokens of a
// prompt of context tokens in all and took ms, queueing and restore excluded.
// behindMS is the work that joined the queue behind it meanwhile (see
// Ledger.FirstToken): if that is more than a little it may have shared its steps,
// and the prefill tells nothing. So do observations that make no sense.
func (c *Calibration) ObservePrefill(w kv.WorkerID, tokens, context int, ms, behindMS float64) {
	if behindMS > mostBehind*ms {
		return
	}
	if tokens <= 0 || context < tokens || !(ms > 0) || math.IsInf(ms, 0) {
		return
	}
	k := c.Worker(w)
	ratio := 1.0
	if c.shape.seen > 0 {
		ratio = ms / c.shape.predict(tokens, context)
	}
	c.paces.remove(&k.pace)
	tells := k.pace.observe(ratio)
	c.observed++
	k.observed = c.observed
	c.paces.add(&k.pace)
	if tells {
		c.shape.observe(tokens, context, ms/c.times(k))
	}
}

// SetLink sets the link that brings blocks from t up to gpu, as w measured it;
// gpu's own is the way in from a prefill worker's.
func (c *Calibration) SetLink(w kv.WorkerID, t kv.Tier, l Link) { c.Worker(w).SetLink(t, l) }

// SetLink is Calibration's. What no link can be makes it unusable: a rate that is
// not a number would poison every sum it is in.
func (k *Speeds) SetLink(t kv.Tier, l Link) {
	if !(l.BytesPerMS >= 0 && l.LatencyMS >= 0 && l.QueuedBytes >= 0 && l.BytesPerMS+l.LatencyMS < math.MaxFloat64) {
		l = Link{}
	}
	if t == kv.GPU {
		k.rates.Handoff = l
		return
	}
	k.rates.Links[t] = l
}

// SetBlockBytes sets the size of w's blocks.
func (c *Calibration) SetBlockBytes(w kv.WorkerID, n int) { c.Worker(w).SetBlockBytes(n) }

// SetBlockBytes is Calibration's.
func (k *Speeds) SetBlockBytes(n int) { k.rates.BlockBytes = n }

// ObserveTTFT compares a decision's prediction with what happened.
func (c *Calibration) ObserveTTFT(w kv.WorkerID, predictedMS, observedMS float64) {
	c.Worker(w).errors.observe(predictedMS, observedMS)
}

// Errors says how good the predictions for w were.
func (c *Calibration) Errors(w kv.WorkerID) ErrorStats {
	if k := c.workers[w]; k != nil {
		return k.errors
	}
	return ErrorStats{}
}

// Forget drops what was learned of w.
func (c *Calibration) Forget(w kv.WorkerID) {
	if k := c.workers[w]; k != nil {
		c.paces.remove(&k.pace)
		c.shape.updates++ // the others' mean is another now
		delete(c.workers, w)
	}
}

// Worker is what is known of w, the defaults at first.
func (c *Calibration) Worker(w kv.WorkerID) *Speeds {
	k := c.workers[w]
	if k == nil {
		k = &Speeds{rates: c.defaults, fleet: c, fitted: -1}
		c.workers[w] = k
	}
	return k
}

// ErrorStats describe a worker's prediction error. Means are exponential, over
// about the last errorWindow requests.
type ErrorStats struct {
	Count     uint64  `json:"count"`
	MeanAbsMS float64 `json:"mean_abs_ms"` // |observed - predicted|
	BiasMS    float64 `json:"bias_ms"`     // observed - predicted: above 0 when we promise too much
	MeanShare float64 `json:"mean_share"`  // |observed - predicted| / observed
}

const errorWindow = 100

func (s *ErrorStats) observe(predicted, observed float64) {
	if !(observed > 0) || !(predicted >= 0) {
		return
	}
	s.Count++
	// A plain mean at first, so that the first request does not count for more
	// than the hundredth.
	weight := 1 / float64(min(s.Count, errorWindow))
	diff := observed - predicted
	s.BiasMS += weight * (diff - s.BiasMS)
	s.MeanAbsMS += weight * (max(diff, -diff) - s.MeanAbsMS)
	s.MeanShare += weight * (max(diff, -diff)/observed - s.MeanShare)
}

// times is k's factor on the shape.
func (c *Calibration) times(k *Speeds) float64 {
	return c.paces.times(&k.pace, float64(c.observed-k.observed)/float64(max(1, len(c.paces))))
}
