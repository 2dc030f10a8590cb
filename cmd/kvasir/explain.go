package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/kv"
)

func newExplain() *cobra.Command {
	var base, prompt string
	var asJSON bool
	c := &cobra.Command{
		Use:   "explain REQUEST_ID | --prompt FILE",
		Short: "Say why a request went to its worker: every term, in ms, for every candidate",
		Long: `Asks the gateway for its record of a request (the x-request-id of the answer), or,
with --prompt, what it would decide now about a request body in a file, without
sending it on.

queue + restore + prefill = TTFT, and TTFT + harm = score; the lowest score wins.
restore is the part of the restore that waiting in the queue does not hide.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (prompt != "") {
				return usagef("give either a request id or --prompt FILE")
			}
			ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
			defer cancel()
			raw, err := fetchRecord(ctx, strings.TrimSuffix(base, "/"), args, prompt)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", raw)
				return err
			}
			var r gateway.Record
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("the gateway's answer: %w", err)
			}
			return printRecord(c.OutOrStdout(), r)
		},
	}
	f := c.Flags()
	f.StringVar(&base, "url", "http://127.0.0.1:8000", "the gateway, or its admin listener")
	f.StringVar(&prompt, "prompt", "", "file with the JSON body of a chat or completions request")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func fetchRecord(ctx context.Context, base string, args []string, prompt string) ([]byte, error) {
	method, path, body := http.MethodGet, "", io.Reader(nil)
	if prompt != "" {
		b, err := os.ReadFile(prompt)
		if err != nil {
			return nil, err
		}
		method, path, body = http.MethodPost, "/kvasir/v1/explain", bytes.NewReader(b)
	} else {
		path = "/kvasir/v1/decisions/" + url.PathEscape(args[0])
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", r.Status, errorMessage(b))
	}
	return bytes.TrimSpace(b), nil
}

// errorMessage is the message of an OpenAI error body, or the body.
func errorMessage(b []byte) string {
	var e struct{ Error struct{ Message string } }
	if json.Unmarshal(b, &e) == nil && e.Error.Message != "" {
		return e.Error.Message
	}
	return string(b)
}

func printRecord(w io.Writer, r gateway.Record) error {
	name, asked := "request "+r.RequestID, r.RequestID != ""
	if !asked {
		name = "not sent, only asked"
	}
	fmt.Fprintf(w, "%s  %s  %s\n", name, r.Endpoint, r.Model)
	fmt.Fprintf(w, "%d tokens, counted by %s; policy %s", r.Tokens, r.TokensFrom, r.Policy)
	if r.Why != "" {
		fmt.Fprintf(w, ": %s", r.Why)
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tgpu\tcpu\tdisk\tredis\tpeer\trecompute\t\tqueue\trestore\tprefill\t= TTFT\tharm\tscore\tms\t")
	for _, c := range r.Candidates {
		mark := ""
		if c.Worker == r.Chosen {
			mark = "→ "
		}
		b := c.Blocks
		fmt.Fprintf(t, "%s%s\t%d\t%d\t%d\t%d\t%d\t%d\tblocks\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t\t\n", mark, c.Worker,
			b[kv.GPU], b[kv.CPU], b[kv.Disk], b[kv.Redis], b[kv.Peer], c.RecomputeBlocks, c.QueueMS, c.RestoreMS, c.PrefillMS, c.TTFTMS, c.HarmMS, c.ScoreMS)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "\ntried %s in vain: %s\n", f.Worker, f.Why)
	}
	if r.Onboard != nil {
		o, b := r.Onboard, r.Onboard.Blocks
		fmt.Fprintf(w, "\nonboarded %d blocks (cpu %d, disk %d, redis %d, peer %d), %d were on gpu, %d missed: %.1f MB in %.3f ms\n",
			b[kv.CPU]+b[kv.Disk]+b[kv.Redis]+b[kv.Peer], b[kv.CPU], b[kv.Disk], b[kv.Redis], b[kv.Peer],
			b[kv.GPU], o.Missed, float64(o.Bytes)/1e6, o.MS)
	}
	if !asked {
		return nil
	}
	return printOutcome(w, r)
}

func printOutcome(w io.Writer, r gateway.Record) error {
	ms := func(v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprintf("%.3f ms", *v)
	}
	if !r.Done {
		_, err := fmt.Fprintf(w, "\nTTFT predicted %s; not finished\n", ms(r.PredictedTTFTMS))
		return err
	}
	_, err := fmt.Fprintf(w, "\nTTFT predicted %s, observed %s; %s after %.3f ms\n", ms(r.PredictedTTFTMS), ms(r.ObservedTTFTMS), r.Outcome, r.DurationMS)
	return err
}
