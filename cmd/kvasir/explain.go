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
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway"
)

func newExplain() *cobra.Command {
	var base, prompt, record string
	var asJSON, replay bool
	c := &cobra.Command{
		Use:   "explain REQUEST_ID | --prompt FILE | --record FILE",
		Short: "Say why a request went to its worker: every term, in ms, for every candidate",
		Long: `Asks the gateway for its record of a request (the x-request-id of the answer), or,
with --prompt, what it would decide now about a request body in a file, without
sending it on. --record reads a record from a file that --json wrote, with no
gateway at all.

queue + restore + prefill = TTFT, and TTFT + harm = score; the lowest score wins.
restore is the part of the restore that waiting in the queue does not hide. Loading
a LoRA adapter, and the way of a prompt's KV from a prefill to a decode worker, are
added where there are any.

--replay decides again from the record and fails if the answer is another one.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := readRecord(c.Context(), strings.TrimSuffix(base, "/"), args, prompt, record)
			if err != nil {
				return err
			}
			var r gateway.Record
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("not a record: %w", err)
			}
			if asJSON {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", raw)
			} else {
				err = printRecord(c.OutOrStdout(), r)
			}
			if err != nil || !replay {
				return err
			}
			if err := r.Replay(); err != nil {
				return fmt.Errorf("replay: %w", err)
			}
			_, err = fmt.Fprintln(c.ErrOrStderr(), "replayed from the record: the same decision")
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&base, "url", "http://127.0.0.1:8000", "the gateway, or its admin listener")
	f.StringVar(&prompt, "prompt", "", "file with the JSON body of a chat or completions request")
	f.StringVar(&record, "record", "", "file with a record that --json wrote")
	f.BoolVar(&replay, "replay", false, "decide again from the record; exit 1 if the answer is another one")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// readRecord finds the record that is asked for: a request's, a prompt's or a
// file's.
func readRecord(ctx context.Context, base string, args []string, prompt, record string) ([]byte, error) {
	given := len(args)
	for _, flag := range [...]string{prompt, record} {
		if flag != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, usagef("give one of a request id, --prompt FILE and --record FILE")
	case record != "":
		b, err := os.ReadFile(record)
		return bytes.TrimSpace(b), err
	case prompt != "":
		b, err := os.ReadFile(prompt)
		if err != nil {
			return nil, err
		}
		return ask(ctx, http.MethodPost, base+"/kvasir/v1/explain", bytes.NewReader(b))
	}
	return ask(ctx, http.MethodGet, base+"/kvasir/v1/decisions/"+url.PathEscape(args[0]), nil)
}

// ask is the gateway's answer.
func ask(ctx context.Context, method, url string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
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
