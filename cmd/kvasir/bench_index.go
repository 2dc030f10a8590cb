package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/prefixindex/indexbench"
)

func newBenchIndex() *cobra.Command {
	o := indexbench.DefaultOptions()
	var asJSON bool
	c := &cobra.Command{
		Use:   "index",
		Short: "Measure prefix lookups while block events are applied",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := indexbench.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, r)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "lookup of %d blocks among %d: p50 %.1f us, p99 %.1f us, %.1f allocations, with %.0f of %.0f block-ops/s applied\n"+
				"applying alone: %.0f block-ops/s; %.1f bytes a membership\n",
				r.PromptBlocks, r.Blocks, r.LookupP50US, r.LookupP99US, r.AllocsPerLookup, r.WriteRateReached, r.WriteRate,
				r.WriteBlockOpsPerS, r.BytesPerMembership)
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&o.Blocks, "blocks", o.Blocks, "distinct blocks in the index")
	f.IntVar(&o.Workers, "workers", o.Workers, "workers that hold them")
	f.IntVar(&o.PromptBlocks, "prompt-blocks", o.PromptBlocks, "blocks of each prompt looked up")
	f.Float64Var(&o.WriteRate, "write-rate", o.WriteRate, "block-ops a second applied meanwhile")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long each part takes")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
