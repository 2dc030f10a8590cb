package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
)

// verdict is how a check of `kvasir doctor` came out.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictNote verdict = "note" // works, but you may want to know
	verdictFail verdict = "fail" // what you configured cannot work like this
)

// check is one named question about this machine or what it talks to.
type check struct {
	name string
	ask  func(context.Context, *config.Config) (verdict, string)
}

type finding struct {
	Name    string  `json:"name"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

func newDoctor() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and everything Kvasir would talk to",
		Long: `Runs named checks side by side: the machine, its limits, the NVIDIA driver, NVML,
and, as far as they are configured, etcd, Redis, the disk tier and engines. Exits 1 if one fails. A note is no failure.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			findings := runChecks(c.Context(), cfg, doctorChecks(cfg, os.Environ()))
			if asJSON {
				err = printJSON(c, map[string]any{"checks": findings})
			} else {
				err = printFindings(c.OutOrStdout(), findings)
			}
			if err != nil {
				return err
			}
			return failures(findings)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file whose services are checked")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func runChecks(ctx context.Context, cfg *config.Config, checks []check) []finding {
	findings := make([]finding, len(checks))
	var wg sync.WaitGroup
	for i, k := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			v, detail := k.ask(ctx, cfg)
			findings[i] = finding{k.name, v, detail}
		})
	}
	wg.Wait()
	return findings
}

func printFindings(w io.Writer, findings []finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-5s %-22s %s\n", f.Verdict, f.Name, f.Detail); err != nil {
			return err
		}
	}
	return nil
}

func failures(findings []finding) error {
	n := 0
	for _, f := range findings {
		if f.Verdict == verdictFail {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d checks failed", n, len(findings))
	}
	return nil
}
