package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/router"
)

func newTop() *cobra.Command {
	var base string
	var every time.Duration
	c := &cobra.Command{
		Use:   "top",
		Short: "Show the fleet, live, in a terminal",
		Long: `Workers with their load, the prediction error and what each tier holds, and the
last decisions. It refreshes until Ctrl-C; when its output is no terminal it
prints once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if every <= 0 {
				return usagef("--every %s: want a time above 0", every)
			}
			return top(c.Context(), c.OutOrStdout(), strings.TrimSuffix(base, "/"), every)
		},
	}
	c.Flags().StringVar(&base, "url", "http://127.0.0.1:8000", "the gateway, or its admin listener")
	c.Flags().DurationVar(&every, "every", time.Second, "how often to refresh")
	return c
}

const (
	clearScreen = "\x1b[H\x1b[2J"
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
)

func top(ctx context.Context, out io.Writer, base string, every time.Duration) error {
	if !isTerminal(out) {
		page, err := fleetPage(ctx, base)
		if err != nil {
			return err
		}
		_, err = out.Write(page)
		return err
	}
	fmt.Fprint(out, hideCursor)
	defer fmt.Fprint(out, showCursor)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		page, err := fleetPage(ctx, base)
		if err != nil {
			page = []byte(err.Error() + "\n") // a gateway that restarts comes back
		}
		if ctx.Err() != nil {
			return nil
		}
		if _, err := fmt.Fprintf(out, "%s%s", clearScreen, page); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// fleet is what top reads of the admin API.
type fleet struct {
	Workers []struct {
		ID         string            `json:"id"`
		Model      string            `json:"model"`
		Role       string            `json:"role"`
		State      string            `json:"state"`
		Silent     bool              `json:"silent"`
		Load       router.Load       `json:"load"`
		Prediction router.ErrorStats `json:"prediction_error"`
	} `json:"workers"`
	tiers     map[string]string // what a worker's tiers hold, as text
	index     string
	decisions []gateway.Record
}

func fleetPage(ctx context.Context, base string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	f := fleet{tiers: map[string]string{}}
	if err := getJSON(ctx, base+"/kvasir/v1/workers", &f); err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, string) error{f.readTiers, f.readIndex, f.readDecisions} {
		if err := read(ctx, base); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err := f.print(&b)
	return b.Bytes(), err
}

func (f *fleet) readTiers(ctx context.Context, base string) error {
	var all struct {
		Workers []struct {
			Worker string `json:"worker"`
			Tiers  []struct {
				Tier                string `json:"tier"`
				Capacity, Committed int
				Up                  *struct {
					Usable bool `json:"usable"`
				} `json:"up"`
			} `json:"tiers"`
		} `json:"workers"`
	}
	if err := getJSON(ctx, base+"/kvasir/v1/tiers", &all); err != nil {
		return err
	}
	for _, w := range all.Workers {
		var parts []string
		for _, t := range w.Tiers {
			part := fmt.Sprintf("%s %d", t.Tier, t.Committed)
			if t.Capacity > 0 {
				part += fmt.Sprintf("/%d", t.Capacity)
			}
			if t.Up != nil && !t.Up.Usable {
				part += " DOWN"
			}
			parts = append(parts, part)
		}
		f.tiers[w.Worker] = strings.Join(parts, "  ")
	}
	return nil
}

func (f *fleet) readIndex(ctx context.Context, base string) error {
	var x struct {
		Blocks, Workers int
		Bytes           int64
	}
	err := getJSON(ctx, base+"/kvasir/v1/index", &x)
	f.index = fmt.Sprintf("index: %d blocks of %d workers in %.1f MiB", x.Blocks, x.Workers, float64(x.Bytes)/(1<<20))
	return err
}

func (f *fleet) readDecisions(ctx context.Context, base string) error {
	var last struct {
		Decisions []gateway.Record `json:"decisions"`
	}
	err := getJSON(ctx, base+"/kvasir/v1/decisions?limit=10", &last)
	f.decisions = last.Decisions
	return err
}

func (f *fleet) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "worker\tmodel\trole\tstate\trunning\twaiting\tqueue ms\tKV free\tTTFT error\ttiers (blocks)")
	for _, one := range f.Workers {
		state := one.State
		if one.Silent {
			state += ", SILENT"
		}
		free := "?"
		if one.Load.FreeKVShare >= 0 {
			free = fmt.Sprintf("%.0f %%", 100*one.Load.FreeKVShare)
		}
		off := "-"
		if one.Prediction.Count > 0 {
			off = fmt.Sprintf("%.1f ms", one.Prediction.MeanAbsMS)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%.0f\t%s\t%s\t%s\n", one.ID, one.Model, one.Role, state,
			one.Load.Running, one.Load.Waiting, one.Load.QueuedPrefillMS, free, off, f.tiers[one.ID])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s\n\n", f.index); err != nil {
		return err
	}
	for _, d := range f.decisions {
		if _, err := fmt.Fprintf(w, "%s  %s\n", d.Time.Format(time.TimeOnly), d.Line()); err != nil {
			return err
		}
	}
	return nil
}

// getJSON reads one answer of the gateway's admin API.
func getJSON(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", r.Status, errorMessage(b))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the answer of %s: %w", url, err)
	}
	return nil
}
