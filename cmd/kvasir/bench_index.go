package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/prefixindex/indexbench"
	"github.com/kvasir-ai/kvasir/workers/fleetbench"
)

func newBenchIndex() *cobra.Command {
	o, wire, join := indexbench.DefaultOptions(), fleetbench.DefaultWire(), fleetbench.DefaultJoin()
	var asJSON, fromWire, joining bool
	c := &cobra.Command{
		Use:   "index",
		Short: "Measure the prefix index: look-ups under events, writes, memory, events from the wire",
		Long: `Measures look-ups while block events are applied, the highest rate of events and
memory. With --wire: how fast events of ZMQ publishers become an index, through
decoding and hashing. With --join: how long a gateway takes to have the blocks of
all agents in its index.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if fromWire {
				wire.Workers, wire.Blocks, wire.Seed = o.Workers, o.Blocks, o.Seed
				r, err := fleetbench.Wire(c.Context(), wire, newBenchedIndex(wire.Blocks))
				if err != nil || asJSON {
					return firstError(err, func() error { return printJSON(c, r) })
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "from the wire, drained: %.2f M blocks/s (first round %.2f) of %d publishers, %d blocks an event; "+
					"CPU %.3f us a block, publishers %.3f more; %.0f bytes a membership\n",
					r.BlocksPerS/1e6, r.FirstBlocksPerS/1e6, r.Workers, r.Run, r.CPUPerBlockUS, r.PublishersUS, r.BytesPerMembership)
				return err
			}
			if joining {
				join.Agents, join.Blocks = o.Workers, o.Blocks
				r, err := fleetbench.Join(c.Context(), join, newBenchedIndex(join.Agents*join.Blocks))
				if err != nil || asJSON {
					return firstError(err, func() error { return printJSON(c, r) })
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "joining %d agents: the index has all %d blocks after %.2f s (CPU %.2f s, agents included)\n",
					r.Agents, r.Memberships, r.FullAfterS, r.CPUS)
				return err
			}
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
	f.IntVar(&o.Blocks, "blocks", o.Blocks, "distinct blocks in the index; with --wire, of all publishers")
	f.IntVar(&o.Workers, "workers", o.Workers, "workers that hold them")
	f.IntVar(&o.PromptBlocks, "prompt-blocks", o.PromptBlocks, "blocks of each prompt looked up")
	f.Float64Var(&o.WriteRate, "write-rate", o.WriteRate, "block-ops a second applied meanwhile")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long each part takes")
	f.BoolVar(&fromWire, "wire", false, "measure events from ZMQ publishers instead")
	f.BoolVar(&joining, "join", false, "measure a gateway that joins agents instead; --blocks is of each")
	f.IntVar(&wire.Run, "run", wire.Run, "with --wire: blocks in an event")
	f.IntVar(&wire.Rounds, "rounds", wire.Rounds, "with --wire: how often to fill the index; the median round counts")
	f.BoolVar(&wire.OwnHashes, "own-hashes", false, "with --wire: each engine hashes equal content differently")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// firstError is err, or what then says.
func firstError(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}
