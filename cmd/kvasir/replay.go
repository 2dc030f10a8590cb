package main

import "github.com/spf13/cobra"

func newReplay() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay",
		Short: "Run a trace through the router in virtual time, policies side by side",
		Args:  cobra.NoArgs,
		RunE:  notYet("it needs the fleet simulator"),
	}
	f := c.Flags()
	f.String("trace", "", "trace file in Mooncake's format, JSON lines")
	f.Int("workers", 8, "workers in the simulated fleet")
	f.String("policy", "all", "policies, separated by commas, or all")
	f.Int("blocks-per-worker", 0, "KV blocks of each worker; 0: unbounded")
	f.Bool("json", false, "print one JSON object")
	return c
}
