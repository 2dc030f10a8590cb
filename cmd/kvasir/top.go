package main

import "github.com/spf13/cobra"

func newTop() *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "Show the fleet, live, in a terminal",
		Args:  cobra.NoArgs,
		RunE:  notYet("until then, GET /kvasir/v1/workers and /kvasir/v1/tiers of the gateway say the same"),
	}
	c.Flags().String("url", "http://127.0.0.1:8000", "the gateway")
	return c
}
