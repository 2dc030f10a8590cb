package router

import "github.com/kvasir-ai/kvasir/internal/kv"

// Calibration keeps each worker's rates as observed. A worker that has computed
// nothing yet is taken to be like the others: from the defaults alone it would
// look faster or slower than all who are known, and draw the requests whose
// prefix those hold, or none.
type Calibration struct {
	defaults Rates
	fleet    prefillFit // of every worker's prefills
	workers  map[kv.WorkerID]*calibrated
}

type calibrated struct {
	rates   Rates // links and block size; the prefill rates are the fit's
	prefill prefillFit
	errors  ErrorStats
}

// NewCalibration starts from defaults.
func NewCalibration(defaults Rates) *Calibration {
	return &Calibration{defaults: defaults, fleet: newPrefillFit(defaults), workers: map[kv.WorkerID]*calibrated{}}
}

// Rates are w's rates as known now.
func (c *Calibration) Rates(w kv.WorkerID) Rates {
	r := c.defaults
	c.fleet.fill(&r)
	if k := c.workers[w]; k != nil {
		r.Links, r.BlockBytes = k.rates.Links, k.rates.BlockBytes
		k.prefill.fill(&r)
	}
	return r
}

// ObservePrefill learns from a prefill on w that computed the last tokens of a
// prompt of context tokens in all and took ms, queueing and restore excluded.
// Observations that make no sense are ignored.
func (c *Calibration) ObservePrefill(w kv.WorkerID, tokens, context int, ms float64) {
	c.worker(w).prefill.observe(tokens, context, ms)
	c.fleet.observe(tokens, context, ms)
}

// SetLink sets the link that brings blocks from t up to gpu, as w measured it.
func (c *Calibration) SetLink(w kv.WorkerID, t kv.Tier, l Link) { c.worker(w).rates.Links[t] = l }

// SetBlockBytes sets the size of w's blocks.
func (c *Calibration) SetBlockBytes(w kv.WorkerID, n int) { c.worker(w).rates.BlockBytes = n }

// ObserveTTFT compares a decision's prediction with what happened.
func (c *Calibration) ObserveTTFT(w kv.WorkerID, predictedMS, observedMS float64) {
	c.worker(w).errors.observe(predictedMS, observedMS)
}

// Errors says how good the predictions for w were.
func (c *Calibration) Errors(w kv.WorkerID) ErrorStats {
	if k := c.workers[w]; k != nil {
		return k.errors
	}
	return ErrorStats{}
}

// Forget drops what was learned of w.
func (c *Calibration) Forget(w kv.WorkerID) { delete(c.workers, w) }

func (c *Calibration) worker(w kv.WorkerID) *calibrated {
	k := c.workers[w]
	if k == nil {
		k = &calibrated{rates: c.defaults, prefill: newPrefillFit(c.defaults)}
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
