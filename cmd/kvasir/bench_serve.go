package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/loadgen"
	"github.com/kvasir-ai/kvasir/internal/trace"
)

// servingLoad are the flags of bench serve.
type servingLoad struct {
	targets, pids []string
	workload      string
	qa            loadgen.QA
	fixed         loadgen.Fixed
	traceFile     string
	traceBlock    int
	speed         float64
	options       loadgen.Options
	asJSON        bool
}

func newBenchServe() *cobra.Command {
	var l servingLoad
	c := &cobra.Command{
		Use:   "serve [--url [NAME=]URL ...]",
		Short: "Load any OpenAI endpoint, with a report of what clients see",
		Long: `Workloads:

  qa      multi-round question answering: users who share a system prompt, each
          with a history of their own, ask --rounds questions at --rate in all
  fixed   --requests single questions at a constant --rate; --shared of each prompt
          is one of --prefixes
  trace   the arrivals, lengths and shared blocks of a Mooncake-format --trace,
          --speed times as fast

A request's clock starts when it is due, so a slow endpoint cannot slow the load
down unseen. With several --url each turn goes to all of them, one after another
in shuffled order, and differences to the first are printed turn by turn. Answers
have exactly the tokens asked for where the engine can (ignore_eos).
The API key is read from OPENAI_API_KEY.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return l.run(c) },
	}
	f := c.Flags()
	f.StringArrayVar(&l.targets, "url", []string{"http://127.0.0.1:8000"}, "endpoint to load, with a name for the report if there are several")
	f.StringArrayVar(&l.pids, "pid", nil, "[NAME=]PID of an endpoint's process: reports its CPU time and memory")
	f.StringVar(&l.options.Model, "model", "", "model to ask for; empty: the first that the endpoint lists")
	f.StringVar(&l.workload, "workload", "qa", "qa, fixed or trace")
	f.Float64Var(&l.qa.Rate, "rate", 1, "questions a second")
	f.IntVar(&l.qa.Users, "users", 8, "qa: users")
	f.IntVar(&l.qa.Rounds, "rounds", 5, "qa: questions of each user")
	f.IntVar(&l.qa.SystemTokens, "system-tokens", 200, "qa: about how long the shared system prompt is")
	f.IntVar(&l.qa.HistoryTokens, "history-tokens", 500, "qa: about how long each user's own history is")
	f.IntVar(&l.qa.QuestionTokens, "question-tokens", 20, "qa: about how long a question is")
	f.IntVar(&l.qa.AnswerTokens, "answer-tokens", 32, "tokens of each answer")
	f.IntVar(&l.fixed.Requests, "requests", 100, "fixed: requests in all")
	f.IntVar(&l.fixed.PromptTokens, "prompt-tokens", 200, "fixed: about how long a prompt is")
	f.Float64Var(&l.fixed.SharedShare, "shared", 0.5, "fixed: share of the prompt that others have too")
	f.IntVar(&l.fixed.Prefixes, "prefixes", 16, "fixed: shared prefixes to choose from")
	f.StringVar(&l.traceFile, "trace", "", "trace: the file")
	f.IntVar(&l.traceBlock, "trace-block", 512, "trace: tokens of a block")
	f.Float64Var(&l.speed, "speed", 1, "trace: how much faster than recorded")
	f.DurationVar(&l.options.Duration, "duration", 0, "send nothing that is due later; 0: all")
	f.DurationVar(&l.options.Timeout, "timeout", 5*time.Minute, "longest a request may take")
	f.Uint64Var(&l.options.Seed, "seed", 1, "makes texts and order")
	f.BoolVar(&l.options.FreeLength, "free-length", false, "let the model end its answers")
	f.BoolVar(&l.asJSON, "json", false, "print one JSON object")
	return c
}

func (l *servingLoad) run(c *cobra.Command) (err error) {
	if l.options.Targets, err = parseTargets(l.targets, l.pids, os.Getenv("OPENAI_API_KEY")); err != nil {
		return err
	}
	if l.options.Sessions, err = l.sessions(); err != nil {
		return err
	}
	if out := c.ErrOrStderr(); isTerminal(out) {
		l.options.Progress = func(done, of int) { fmt.Fprintf(out, "\r%d of %d requests", done, of) }
		defer fmt.Fprintln(out)
	}
	r, err := loadgen.Run(c.Context(), l.options)
	if err != nil {
		return err
	}
	if l.asJSON {
		err = printJSON(c, r)
	} else {
		err = printServing(c.OutOrStdout(), r)
	}
	if err == nil && c.Context().Err() != nil {
		err = context.Cause(c.Context())
	}
	return err
}

func (l *servingLoad) sessions() ([]loadgen.Session, error) {
	switch l.workload {
	case "qa":
		return l.qa.Sessions(l.options.Seed)
	case "fixed":
		l.fixed.Rate, l.fixed.AnswerTokens = l.qa.Rate, l.qa.AnswerTokens
		return l.fixed.Sessions(l.options.Seed)
	case "trace":
		if l.traceFile == "" || l.speed <= 0 || l.traceBlock < 1 {
			return nil, usagef("--workload trace wants --trace FILE, and --speed and --trace-block above 0")
		}
		t, err := trace.ReadFile(l.traceFile, l.traceBlock)
		if err != nil {
			return nil, err
		}
		return loadgen.FromTrace(t.Scale(l.speed)), nil
	}
	return nil, usagef("--workload %q: want qa, fixed or trace", l.workload)
}

// parseTargets reads [NAME=]URL and [NAME=]PID. An URL without a name is its
// own name; a PID without one is the first target's.
func parseTargets(urls, pids []string, key string) ([]loadgen.Target, error) {
	targets := make([]loadgen.Target, len(urls))
	for i, u := range urls {
		name, rest, named := strings.Cut(u, "=")
		if !named || strings.Contains(name, "/") {
			name, rest = u, u
		}
		targets[i] = loadgen.Target{Name: name, URL: rest, Key: key}
	}
	for _, p := range pids {
		name, number, named := strings.Cut(p, "=")
		if !named {
			name, number = targets[0].Name, p
		}
		pid, err := strconv.Atoi(number)
		if err != nil || pid < 1 {
			return nil, usagef("--pid %q: want [NAME=]PID", p)
		}
		found := false
		for i := range targets {
			if targets[i].Name == name {
				targets[i].PID, found = pid, true
			}
		}
		if !found {
			return nil, usagef("--pid %q: no --url has the name %q", p, name)
		}
	}
	return targets, nil
}

func printServing(w io.Writer, r *loadgen.Report) error {
	fmt.Fprintf(w, "%s, seed %d, %.1f s\n\n", r.Model, r.Seed, r.DurationS)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests\terrors\tTTFT ms mean\tp50\tp90\tp99\tTPOT mean\tp99\tcached\treq/s\ttok/s\tCPU ms/req\tµs/event\tRSS MiB\t")
	for _, f := range r.Targets {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%.2f\t%.1f\t%s\t%s\t%s\t\n", f.Name, f.Requests, f.Errors,
			f.TTFTMS.Mean, f.TTFTMS.P50, f.TTFTMS.P90, f.TTFTMS.P99, f.TPOTMS.Mean, f.TPOTMS.P99, share(f.CachedTokenShare), f.ReqPerS, f.OutputTokPerS,
			maybe(f.CPUMSPerRequest, "%.2f"), maybe(f.CPUUSPerEvent, "%.1f"), maybe(f.RSSMiB, "%.0f"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range r.Paired {
		fmt.Fprintf(w, "\n%s - %s over %d turns: TTFT mean %+.2f, p50 %+.2f, p99 %+.2f ms; whole answer p50 %+.2f ms\n",
			p.Target, p.Base, p.Turns, p.TTFTMS.Mean, p.TTFTMS.P50, p.TTFTMS.P99, p.E2EMS.P50)
	}
	for _, f := range r.Targets {
		if f.PredictionErrorMS != nil {
			fmt.Fprintf(w, "\n%s: TTFT predicted to within %.1f ms (mean), %.1f (p90)\n", f.Name, f.PredictionErrorMS.Mean, f.PredictionErrorMS.P90)
		}
		for _, e := range f.FirstErrors {
			fmt.Fprintf(w, "\n%s: %s\n", f.Name, e)
		}
	}
	_, err := fmt.Fprintf(w, "\nthe generator itself was late by %.1f ms (p99)\n", r.LateMS.P99)
	return err
}

func share(s float64) string {
	if s < 0 {
		return "?"
	}
	return fmt.Sprintf("%.3f", s)
}

func maybe(v *float64, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}
