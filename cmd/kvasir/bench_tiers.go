package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/kvbm/tierbench"
)

func newBenchTiers() *cobra.Command {
	var o tierbench.Options
	var asJSON bool
	gpu := -1
	block := config.Size(2 << 20)
	c := &cobra.Command{
		Use:   "tiers --dir D",
		Short: "Measure each tier beside its raw limit, interleaved in one run",
		Long:  "The limit is a plain copy for cpu, the raw device for disk, and a raw socket for Redis.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if gpu >= 0 {
				return usagef("--gpu is not built yet: it needs the gpu tier over an engine's own memory")
			}
			o.BlockBytes = int(block)
			r, err := tierbench.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, r)
			}
			for _, t := range r.Tiers {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%-6s read %.2f GB/s (%.2f of %.2f), write %.2f (%.2f of %.2f); limit: %s\n",
					t.Tier, t.Read, t.RatioRead, t.LimitRead, t.Write, t.RatioWrite, t.LimitWrite, t.Limit); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder on the disk to measure; empty: no disk")
	f.StringVar(&o.RedisURL, "redis", "", "Redis to measure; empty: none")
	f.IntVar(&gpu, "gpu", -1, "GPU to measure")
	f.Var(&block, "block", "size of a block")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
