package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

func newRender() *cobra.Command {
	var lines bool
	c := &cobra.Command{
		Use:   "render",
		Short: "Render chat templates with Python's semantics",
		Long: `Each line of stdin is {"template": ..., "context": {...}, "now": "2026-11-23T07:08:09"};
each line printed is {"output": ...} or {"error": ...}. "now" is the clock that
strftime_now reads, the present if absent.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := bufio.NewWriter(c.OutOrStdout())
			defer w.Flush()
			return eachLine(c.InOrStdin(), w, renderLine)
		},
	}
	c.Flags().BoolVar(&lines, "jsonl", true, "one JSON object a line; the only form there is")
	return c
}

func renderLine(in []byte) ([]byte, error) {
	var job struct {
		Template string          `json:"template"`
		Context  json.RawMessage `json:"context"`
		Now      string          `json:"now"`
	}
	if err := json.Unmarshal(in, &job); err != nil {
		return nil, fmt.Errorf(`want {"template":..., "context":{...}}: %w`, err)
	}
	now := time.Now()
	if job.Now != "" {
		t, err := time.ParseInLocation("2006-01-02T15:04:05", job.Now, time.Local)
		if err != nil {
			return nil, fmt.Errorf("now: %w", err)
		}
		now = t
	}
	answer := map[string]string{}
	if out, err := renderTemplate(job.Template, job.Context, now); err != nil {
		answer["error"] = err.Error()
	} else {
		answer["output"] = out
	}
	b, err := json.Marshal(answer)
	return append(b, '\n'), err
}

func renderTemplate(src string, context json.RawMessage, now time.Time) (string, error) {
	t, err := chattemplate.Parse(src)
	if err != nil {
		return "", err
	}
	if len(context) == 0 {
		context = json.RawMessage("{}")
	}
	ctx, err := chattemplate.FromJSON(context)
	if err != nil {
		return "", fmt.Errorf("context: %w", err)
	}
	return t.Render(ctx, now)
}
