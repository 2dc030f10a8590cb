package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "kvasir",
		Short: "An OpenAI-compatible inference gateway that makes KV caches pay",
		Long: `Kvasir stands in front of a fleet of LLM engines. It turns a prompt into tokens,
looks up where their KV blocks are cached (GPU, CPU, disk, Redis), sends the
request where the answer starts soonest, and has that worker's block manager
bring the blocks up before decoding.

Try it on this machine:  kvasir up`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          oneOfItsCommands,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w\nsee: %s --help", err, c.CommandPath())
	})
	root.AddCommand(
		newUp(), newServe(), newWorker(), newValidate(), newDoctor(), newExplain(),
		newReplay(), newTop(), newBench(), newTokenize(), newRender(), newVersion(),
	)
	return root
}

// oneOfItsCommands refuses what is no subcommand.
func oneOfItsCommands(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q; see: %s --help", args[0], c.CommandPath())
	}
	return nil
}

// loadConfig reads the file, or the environment alone if there is none.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return config.FromEnv(os.Environ())
	}
	return config.Load(file, os.Environ())
}

func newLogger(c config.Telemetry) (*slog.Logger, error) {
	log, err := telemetry.NewLogger(os.Stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	slog.SetDefault(log)
	return log, nil
}

func printJSON(c *cobra.Command, v any) error {
	b, err := marshalIndent(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
	return err
}
