package main

import "github.com/spf13/cobra"

func newBenchIndex() *cobra.Command {
	return &cobra.Command{Use: "index", Short: "Measure prefix lookups while events are applied", RunE: notYet("x")}
}

func newBenchTiers() *cobra.Command {
	return &cobra.Command{Use: "tiers", Short: "Measure tiers", RunE: notYet("x")}
}
