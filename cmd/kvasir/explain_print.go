package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/kv"
)

// printRecord writes a record as a person reads it: the question, every
// candidate's sum, why this cut, and what came of it.
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
	if err := printCandidates(w, r); err != nil {
		return err
	}
	printCut(w, r)
	if r.Bypass != "" {
		fmt.Fprintf(w, "\none worker serves it: %s\n", bypassed(r.Bypass))
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "\ntried %s in vain: %s\n", f.Worker, f.Why)
	}
	for _, l := range r.Legs {
		fmt.Fprintf(w, "\n%s at %s: %s after %.3f ms", l.Role, l.Worker, l.Outcome, l.MS)
		if l.Why != "" {
			fmt.Fprintf(w, " (%s)", l.Why)
		}
		fmt.Fprintln(w)
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

// bypassed is the reason, in words, for which a request was not shared.
func bypassed(reason string) string {
	switch reason {
	case "cached":
		return "most of the prompt is cached there"
	case "short":
		return "the prompt is computed there sooner than its KV would come from elsewhere"
	case "queue":
		return "the prefill workers have too much ahead"
	case "cheaper":
		return "that is cheaper than a prefill worker and the transfer"
	}
	return reason
}

// printCandidates is the table of sums. Adapter and transfer have columns only
// where somebody needs them.
func printCandidates(w io.Writer, r gateway.Record) error {
	extra := false
	for _, c := range r.Candidates {
		extra = extra || c.AdapterMS > 0 || c.Split != nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\tgpu\tcpu\tdisk\tredis\tpeer\trecompute\t\tqueue\trestore\tprefill\t")
	if extra {
		fmt.Fprint(t, "adapter\ttransfer\t")
	}
	fmt.Fprintln(t, "= TTFT\tharm\tscore\tms\t")
	for _, c := range r.Candidates {
		name := string(c.Worker)
		switch {
		case c.Split != nil:
			name = string(c.Prefill()) + " then " + name
		case c.Role == kv.Prefill:
			name += " (first leg)"
		}
		if c.Worker == r.Chosen && c.Prefill() == r.Prefill {
			name = "→ " + name
		}
		b := c.Blocks
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\tblocks\t%.3f\t%.3f\t%.3f\t", name,
			b[kv.GPU], b[kv.CPU], b[kv.Disk], b[kv.Redis], b[kv.Peer], c.RecomputeBlocks, c.QueueMS, c.RestoreMS, c.PrefillMS)
		if extra {
			fmt.Fprintf(t, "%.3f\t%.3f\t", c.AdapterMS, c.TransferMS)
		}
		fmt.Fprintf(t, "%.3f\t%.3f\t%.3f\t\t\n", c.TTFTMS, c.HarmMS, c.ScoreMS)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range r.Candidates {
		if c.Inputs.Predicted > 0 {
			fmt.Fprintf(w, "%s tells nothing of its blocks: %d are predicted from what it was sent\n", c.Worker, c.Inputs.Predicted)
		}
	}
	if r.LeftOut > 0 {
		fmt.Fprintf(w, "and %d further candidates, which were not kept of this decision\n", r.LeftOut)
	}
	return nil
}

// printCut says why so many blocks are reused and no more.
func printCut(w io.Writer, r gateway.Record) {
	if r.Cut == nil || r.Cut.HeldBlocks == 0 {
		return
	}
	for _, c := range r.Candidates {
		if c.Worker == r.Chosen && c.Split == nil {
			fmt.Fprintf(w, "\n%s can have %d blocks of the prompt and takes %d. TTFT with all of them: %.3f ms; with none: %.3f ms\n",
				c.Worker, r.Cut.HeldBlocks, c.Cut, r.Cut.EverythingMS, r.Cut.NothingMS)
		}
	}
}

// printOutcome is what really happened.
func printOutcome(w io.Writer, r gateway.Record) error {
	ms := func(v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprintf("%.3f ms", *v)
	}
	if r.Done {
		fmt.Fprintf(w, "\nTTFT predicted %s, observed %s; %s after %.3f ms\n", ms(r.PredictedTTFTMS), ms(r.ObservedTTFTMS), r.Outcome, r.DurationMS)
	} else {
		fmt.Fprintf(w, "\nTTFT predicted %s; not finished\n", ms(r.PredictedTTFTMS))
	}
	for _, c := range r.Candidates {
		if r.Usage != nil && r.Usage.CachedTokens >= 0 && c.Worker == r.Chosen && c.Split == nil {
			fmt.Fprintf(w, "cached tokens predicted %d, reported by the engine %d of %d\n", c.CachedTokens, r.Usage.CachedTokens, r.Usage.PromptTokens)
		}
		if c.Worker == r.RunnerUp && c.Prefill() == r.RunnerUpPrefill && (c.Worker != r.Chosen || c.Prefill() != r.Prefill) {
			fmt.Fprintf(w, "%s would have been next: TTFT %.3f ms, score %.3f ms\n", c.Worker, c.TTFTMS, c.ScoreMS)
		}
	}
	return nil
}
