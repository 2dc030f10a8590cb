package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/gpubench"
	"github.com/kvasir-ai/kvasir/kvbm/tierbench"
)

func newBenchTiers() *cobra.Command {
	var o tierbench.Options
	var asJSON, peers bool
	gpu := -1
	block := config.Size(2 << 20)
	c := &cobra.Command{
		Use:   "tiers --dir D",
		Short: "Measure each tier beside its raw limit, interleaved in one run",
		Long:  "The limit is a plain copy for cpu, the raw device for disk, a raw socket for Redis, raw sockets to another process for a peer, and the copy engine for a GPU.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.BlockBytes = int(block)
			if peers {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				o.Holder = func() *exec.Cmd { return exec.Command(self, "bench", benchHolder) }
			}
			r, err := tierbench.Run(c.Context(), o)
			if err != nil {
				return err
			}
			report := tiersReport{Report: r}
			if gpu >= 0 {
				g, err := benchGPU(c, gpu)
				if err != nil {
					return fmt.Errorf("bench of the gpu tier: %w", err)
				}
				report.GPU, report.Tiers = &g, append(report.Tiers, g.Tier())
			}
			if asJSON {
				return printJSON(c, report)
			}
			for _, t := range report.Tiers {
				if err := printTier(c.OutOrStdout(), t); err != nil {
					return err
				}
			}
			if report.GPU != nil {
				return printGPU(c, report.GPU)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder on the disk to measure; empty: no disk")
	f.StringVar(&o.RedisURL, "redis", "", "Redis to measure; empty: none")
	f.BoolVar(&peers, "peer", false, "measure pulling blocks from another process over TCP")
	f.IntVar(&gpu, "gpu", -1, "GPU to measure")
	f.Var(&block, "block", "size of a block")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds whose median counts; 0: 11")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// printTier shows a tier: speeds, what they cost in CPU, and what one request
// waits for one block.
func printTier(w io.Writer, t tierbench.TierReport) error {
	latency := func(l tierbench.Latency) string {
		return fmt.Sprintf("p50 %.0f us, p90 %.0f, p99 %.0f, max %.0f", l.P50, l.P90, l.P99, l.Max)
	}
	if t.Tier == kv.Peer { // which is only read
		_, err := fmt.Fprintf(w, `%-6s read %.2f GB/s (%.2f of %.2f); limit: %s
       CPU s/GB on this side: %.3f (limit %.3f)
       one block: %s; at the limit: %s
`, t.Tier, t.Read, t.RatioRead, t.LimitRead, t.Limit, t.CPURead, t.LimitCPURead, latency(t.Load), latency(t.LimitLoad))
		return err
	}
	_, err := fmt.Fprintf(w, `%-6s read %.2f GB/s (%.2f of %.2f), write %.2f (%.2f of %.2f); limit: %s
       CPU s/GB: read %.3f (limit %.3f), write %.3f (limit %.3f)
       one block: %s; beside offloads: %s
       one block at the limit: read %s; write %s
`, t.Tier, t.Read, t.RatioRead, t.LimitRead, t.Write, t.RatioWrite, t.LimitWrite, t.Limit,
		t.CPURead, t.LimitCPURead, t.CPUWrite, t.LimitCPUWrite,
		latency(t.Load), latency(t.LoadBeside), latency(t.LimitLoad), latency(t.LimitStore))
	return err
}

// tiersReport is what --json prints.
type tiersReport struct {
	tierbench.Report
	GPU *gpubench.Report `json:"gpu,omitempty"`
}

func benchGPU(c *cobra.Command, ordinal int) (gpubench.Report, error) {
	self, err := os.Executable()
	if err != nil {
		return gpubench.Report{}, err
	}
	return gpubench.Run(c.Context(), gpubench.Options{
		GPU: ordinal,
		Engine: func(socket string) *exec.Cmd {
			return exec.Command(self, "bench", benchEngine, strconv.Itoa(ordinal), socket)
		},
	})
}

func printGPU(c *cobra.Command, r *gpubench.Report) error {
	out := c.OutOrStdout()
	if _, err := fmt.Fprintf(out, "\n%s, CUDA %s, %s; %d bytes verified\n", r.GPU, r.CUDA, r.Copies, r.Verified); err != nil {
		return err
	}
	for _, m := range r.Cases {
		if _, err := fmt.Fprintf(out, "fragments of %7d, %-4s, engine %-8s  %6.2f GB/s (%.3f of %6.2f), engine slower by %5.2f %%, %.3f CPU s/GB\n",
			m.Fragment, m.Direction, m.Engine, m.Rate, m.Ratio, m.Limit, 100*m.Slowdown, m.CPU); err != nil {
			return err
		}
	}
	for _, l := range r.Latencies {
		what := "load"
		if l.Raw {
			what = "copy"
		}
		if _, err := fmt.Fprintf(out, "%s of 2 MB, engine %-8s beside %-26s p50 %5.0f us, p90 %5.0f, p99 %5.0f, max %5.0f (%d)\n",
			what, l.Engine, l.Beside+":", l.P50, l.P90, l.P99, l.Max, l.N); err != nil {
			return err
		}
	}
	return nil
}

const benchHolder = "tier-holder"

// newBenchHolder is the second process of bench tiers --peer.
func newBenchHolder() *cobra.Command {
	return &cobra.Command{
		Use:    benchHolder,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return tierbench.Hold(c.Context(), c.InOrStdin(), c.OutOrStdout())
		},
	}
}

const benchEngine = "gpu-engine"

// newBenchEngine is the second process of bench tiers --gpu.
func newBenchEngine() *cobra.Command {
	return &cobra.Command{
		Use:    benchEngine + " GPU SOCKET",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			ordinal, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			return gpubench.ServeEngine(args[1], ordinal)
		},
	}
}
