package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
)

func newValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check configuration files",
		Long:  "Prints every problem as file:line: what is wrong and what was expected. Exits 1 if there is one.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name at least one file\nusage: %s", c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, files []string) error {
			bad := 0
			for _, f := range files {
				if _, err := config.Load(f, os.Environ()); err != nil {
					fmt.Fprintln(c.OutOrStdout(), err)
					bad++
				}
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d files have problems", bad, len(files))
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "valid: %s\n", strings.Join(files, ", "))
			return err
		},
	}
}
