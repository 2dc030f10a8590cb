package main

import "github.com/spf13/cobra"

func newBenchServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Load on any OpenAI endpoint, with a report",
		Args:  cobra.NoArgs,
		RunE:  notYet("it comes with the fleet simulator's workloads"),
	}
	c.Flags().String("url", "http://127.0.0.1:8000", "endpoint to load")
	c.Flags().Bool("json", false, "print one JSON object")
	return c
}
