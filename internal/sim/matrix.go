package sim

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/trace"
)

// Cell is one fleet at one share of its saturation rate, under every policy.
type Cell struct {
	Fleet   string    `json:"fleet"`
	Share   float64   `json:"share"` // of the saturation rate
	Rate    float64   `json:"rate"`  // factor on the trace's own
	Results []*Result `json:"policies"`
}

// set-ups of the matrix: what differs from the options given.
var matrix = []struct {
	fleet  string
	shares []float64
	change func(*Options, time.Duration)
}{
	{"4,096 blocks a worker", []float64{0.4, 0.7, 0.9}, func(o *Options, _ time.Duration) { o.BlocksPerWorker = 4096 }},
	{"16,384 blocks a worker", []float64{0.4, 0.7, 0.9}, func(o *Options, _ time.Duration) { o.BlocksPerWorker = 16384 }},
	{"4,096 + cpu 8,192 + disk 32,768", []float64{0.4, 0.7, 0.9}, func(o *Options, _ time.Duration) {
		o.BlocksPerWorker, o.Tiers.CPUBlocks, o.Tiers.DiskBlocks = 4096, 8192, 32768
	}},
	{"16,384, 2 gateways", []float64{0.7}, func(o *Options, _ time.Duration) { o.BlocksPerWorker, o.Gateways = 16384, 2 }},
	{"16,384, 4 gateways", []float64{0.7}, func(o *Options, _ time.Duration) { o.BlocksPerWorker, o.Gateways = 16384, 4 }},
	{"16,384, every fourth worker half as fast", []float64{0.7}, func(o *Options, _ time.Duration) {
		o.BlocksPerWorker, o.Slower = 16384, []float64{1, 1, 1, 2}
	}},
	{"16,384, one joins at a third, one leaves at two thirds", []float64{0.7}, func(o *Options, d time.Duration) {
		o.BlocksPerWorker = 16384
		o.Changes = []Change{{At: d / 3, Worker: o.Workers - 1}, {At: 2 * d / 3, Worker: 0, Leaves: true}}
	}},
	{"16,384, events 500 ms late", []float64{0.7}, func(o *Options, _ time.Duration) {
		o.BlocksPerWorker, o.EventDelay = 16384, 500*time.Millisecond
	}},
}

// Matrix compares the policies over fleets of different kinds, each at shares of
// its saturation rate, and calls ended after each cell.
func Matrix(t *trace.Trace, o Options, policies []string, parallel int, ended func(*Cell) error) error {
	for _, m := range matrix {
		for _, share := range m.shares {
			o := o
			m.change(&o, 0)
			// A worker that is away for a third of the time counts for two thirds.
			rate := share * Saturation(t, &o) * (float64(o.Workers) - float64(len(o.Changes))/3) / float64(o.Workers)
			scaled := t.Scale(rate)
			m.change(&o, scaled.Duration())
			results, err := Compare(scaled, o, policies, parallel, nil)
			if err != nil {
				return err
			}
			if err := ended(&Cell{m.fleet, share, rate, results}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Best is the result with the lowest of a measure, among those that are not of
// the named policy.
func (c *Cell) Best(but string, of func(*Result) float64) *Result {
	var best *Result
	for _, r := range c.Results {
		if r.Name != but && (best == nil || of(r) < of(best)) {
			best = r
		}
	}
	return best
}

// Of is the named policy's result, nil if it was not run.
func (c *Cell) Of(policy string) *Result {
	for _, r := range c.Results {
		if r.Name == policy {
			return r
		}
	}
	return nil
}
