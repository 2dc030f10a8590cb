package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/sim"
)

// replayed is what replay --json prints.
type replayed struct {
	Policies        []*sim.Result `json:"policies"`
	Workers         int           `json:"workers"`
	BlocksPerWorker int           `json:"blocks_per_worker"`
	Trace           string        `json:"trace"`
	TraceSHA256     string        `json:"trace_sha256"`
	Requests        int           `json:"requests"`
	Rate            float64       `json:"rate"`
	HitCeiling      float64       `json:"hit_ceiling"`
	Timing          string        `json:"timing"`
	Seed            uint64        `json:"seed"`
}

func replay(c *cobra.Command, f *replayFlags, o sim.Options) error {
	if err := f.fill(&o); err != nil {
		return err
	}
	if f.matrix {
		return replayMatrix(c, f, o)
	}
	names, err := f.names()
	if err != nil {
		return err
	}
	t, err := f.load(o.Seed)
	if err != nil {
		return err
	}
	tell := progress(c.ErrOrStderr())
	results, err := sim.Compare(t, o, names, f.parallel, func(r *sim.Result) { tell(r.Name) })
	if err != nil {
		return err
	}
	out := replayed{results, o.Workers, o.BlocksPerWorker, t.Name, t.SHA256, len(t.Requests), f.rate, t.Ceiling(), f.timing, o.Seed}
	if f.report != "" {
		title := fmt.Sprintf("%s at %g times its rate, %d workers, %d blocks each, timing %s", t.Name, f.rate, o.Workers, o.BlocksPerWorker, f.timing)
		if err := writeReport(f.report, title, results); err != nil {
			return err
		}
	}
	if f.asJSON {
		return printJSON(c, out)
	}
	return out.print(c.OutOrStdout())
}

func writeReport(path, title string, results []*sim.Result) (err error) {
	w, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	defer func() {
		if e := w.Close(); err == nil {
			err = e
		}
	}()
	return sim.WriteReport(w, title, results)
}

// progress says on a terminal which policies are done.
func progress(w io.Writer) func(string) {
	if !isTerminal(w) {
		return func(string) {}
	}
	return func(name string) { fmt.Fprintln(w, "done:", name) }
}

func (o *replayed) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d requests at %g times its rate; %d workers, %d blocks each; timing %s; no cache could hit more than %.4f\n\n",
		o.Trace, o.Requests, o.Rate, o.Workers, o.BlocksPerWorker, o.Timing, o.HitCeiling)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "policy\thit\tgpu\tcpu\tdisk\tredis\tTTFT mean\tp50\tp99 ms\tTPOT mean\tp99 ms\tload max/mean\twork\tin SLO\tprediction off by\t")
	for _, r := range o.Policies {
		fmt.Fprintf(tw, "%s\t%.4f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.3f\t%.3f\t%.1f %%\t%.0f ms\t\n",
			r.Name, r.HitRate, r.HitRates["gpu"], r.HitRates["cpu"], r.HitRates["disk"], r.HitRates["redis"],
			r.TTFTMeanMS, r.TTFTP50MS, r.TTFTP99MS, r.TPOTMeanMS, r.TPOTP99MS,
			r.LoadMaxOverMean, r.WorkMaxOverMean, 100*r.GoodputShare, r.PredictionMS.MeanAbsMS)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range o.Policies {
		if d := r.DecisionUS; d != nil {
			fmt.Fprintf(w, "%s: a decision took %.1f us at p50, %.1f at p99, %.0f at most\n", r.Name, d.P50, d.P99, d.Max)
		}
	}
	return nil
}
