package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/sim"
)

// matrixed is what replay --matrix --json prints.
type matrixed struct {
	Cells       []*sim.Cell `json:"cells"`
	Workers     int         `json:"workers"`
	Trace       string      `json:"trace"`
	TraceSHA256 string      `json:"trace_sha256"`
	Timing      string      `json:"timing"`
	Seed        uint64      `json:"seed"`
}

// replayMatrix replays the trace in fleets of different kinds, at shares of their
// saturation rates.
func replayMatrix(c *cobra.Command, f *replayFlags, o sim.Options) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	t, err := f.load(o.Seed)
	if err != nil {
		return err
	}
	m := matrixed{Workers: o.Workers, Trace: t.Name, TraceSHA256: t.SHA256, Timing: f.timing, Seed: o.Seed}
	out := c.OutOrStdout()
	if !f.asJSON {
		fmt.Fprintf(out, "%s, %d workers, timing %s; ours is %s. Below each cell, the best of the others by each measure.\n", t.Name, o.Workers, f.timing, names[0])
	}
	err = sim.Matrix(t, o, names, f.parallel, func(cell *sim.Cell) error {
		m.Cells = append(m.Cells, cell)
		if f.asJSON {
			return nil
		}
		return printCell(out, cell, names[0])
	})
	if err != nil || !f.asJSON {
		return err
	}
	return printJSON(c, m)
}

func printCell(w io.Writer, c *sim.Cell, ours string) error {
	us := c.Of(ours)
	mean := c.Best(ours, func(r *sim.Result) float64 { return r.TTFTMeanMS })
	p99 := c.Best(ours, func(r *sim.Result) float64 { return r.TTFTP99MS })
	hit := c.Best(ours, func(r *sim.Result) float64 { return -r.HitRate })
	if mean == nil {
		return usagef("--matrix compares: give --policy at least two policies")
	}
	_, err := fmt.Fprintf(w, "\n%s, %.0f %% of saturation (%.2f times the trace's rate)\n"+
		"  TTFT mean %6.0f ms, p99 %6.0f ms, hit %.4f, TPOT p99 %6.1f ms, requests max/mean %.3f, work max/mean %.3f\n"+
		"            %6.0f (%s)  %6.0f (%s)  %.4f (%s): %.2f of mean, %.2f of p99, %.3f of hits\n",
		c.Fleet, 100*c.Share, c.Rate,
		us.TTFTMeanMS, us.TTFTP99MS, us.HitRate, us.TPOTP99MS, us.LoadMaxOverMean, us.WorkMaxOverMean,
		mean.TTFTMeanMS, mean.Name, p99.TTFTP99MS, p99.Name, hit.HitRate, hit.Name,
		us.TTFTMeanMS/mean.TTFTMeanMS, us.TTFTP99MS/p99.TTFTP99MS, us.HitRate/hit.HitRate)
	return err
}
