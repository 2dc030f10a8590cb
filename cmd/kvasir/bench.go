package main

import "github.com/spf13/cobra"

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure an endpoint, or parts of Kvasir beside their limits",
		Args:  oneOfItsCommands,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchServe(), newBenchIndex(), newBenchTokenizer(), newBenchTiers(), newBenchEngine(), newBenchHolder())
	return c
}
