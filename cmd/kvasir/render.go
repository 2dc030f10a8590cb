package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

func newRender() *cobra.Command {
	var lines bool
	var model string
	c := &cobra.Command{
		Use:   "render [--model DIR]",
		Short: "Render chats: a model's, to its tokens, or any template's",
		Long: `Without --model each line of stdin is {"template": ..., "context": {...}} and each
line printed is {"output": ...} or {"error": ...}: the template as Python's Jinja2
renders it.

With --model each line is a chat request, {"messages": [...], "tools": [...], ...},
or its messages alone, and each line printed is {"output": ..., "tokens": [...]} or
{"error": ...}: the prompt and the ids that the gateway makes of that chat for the
model, by its template, or by the rules of its own that gpt-oss, DeepSeek and
Mistral's models have.

"now": "2026-11-23T07:08:09" in a line is the clock that is read, the present if
absent.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := bufio.NewWriter(c.OutOrStdout())
			defer w.Flush()
			convert := renderLine
			if model != "" {
				var err error
				if convert, err = chatRenderer(model); err != nil {
					return err
				}
			}
			return eachLine(c.InOrStdin(), w, convert)
		},
	}
	c.Flags().BoolVar(&lines, "jsonl", true, "one JSON object a line; the only form there is")
	c.Flags().StringVar(&model, "model", "", "model folder, tokenizer.json or .gguf file whose chats the lines are")
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
	now, err := clockOf(job.Now)
	if err != nil {
		return nil, err
	}
	answer := rendering{}
	if out, err := renderTemplate(job.Template, job.Context, now); err != nil {
		answer.Error = err.Error()
	} else {
		answer.Output = &out
	}
	return answer.line()
}

// rendering is one line of the answer.
type rendering struct {
	Output *string  `json:"output,omitempty"`
	Tokens []uint32 `json:"tokens,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// line is r as JSON, with special tokens readable.
func (r rendering) line() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(r)
	return b.Bytes(), err
}

// clockOf is the time that a line names, else the present.
func clockOf(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	t, err := time.ParseInLocation("2006-01-02T15:04:05", text, time.Local)
	if err != nil {
		return t, fmt.Errorf("now: %w", err)
	}
	return t, nil
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
