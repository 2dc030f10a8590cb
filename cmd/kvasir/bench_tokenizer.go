package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// tokenizerReport is what `bench tokenizer --json` prints. Rates are of one
// core's own time, so that a busy machine's other work does not count.
type tokenizerReport struct {
	Tokenizer string `json:"tokenizer"`
	File      string `json:"file"`
	Bytes     int    `json:"bytes"`
	Tokens    int    `json:"tokens"`
	encodeRates
	AllocsPerCall float64          `json:"allocs_per_call"` // of the last kind
	LoadMS        float64          `json:"load_ms"`
	HeapMB        float64          `json:"heap_mb"` // after encoding the file
	Chat          *chatReport      `json:"chat,omitempty"`
	HuggingFace   *referenceReport `json:"hugging_face,omitempty"`
}

// encodeRates is how fast the four kinds of calls that tokenizerHelp tells apart
// encode, in MB/s.
type encodeRates struct {
	New     float64 `json:"mb_per_s_new"`
	Emptied float64 `json:"mb_per_s"`
	First   float64 `json:"mb_per_s_first"`
	Again   float64 `json:"mb_per_s_warm"`
}

// chatReport is of the file's first 480 kB in one call, as a long conversation
// would be: in ms, by the same four kinds. New is absent where the file has no more.
type chatReport struct {
	NewMS     float64 `json:"new_ms,omitempty"`
	EmptiedMS float64 `json:"cold_ms"`
	FirstMS   float64 `json:"first_ms"`
	AgainMS   float64 `json:"warm_ms"`
}

const tokenizerHelp = `Four kinds of calls, which differ in what the caches hold:

- new text: parts of 16 kB that were never encoded, every second one of the file, after
  the others. Words were met before as far as those had them; no part is remembered.
  This is what a gateway sees. (mb_per_s_new)
- emptied: the caches of words and segments are emptied before each call; tables are
  in the processor's caches. (mb_per_s)
- first: the first call of a tokenizer just loaded: page faults and all. (mb_per_s_first)
- again: the same text once more, which is remembered in segments. (mb_per_s_warm)

Each is the median of several rounds. With --hf the same is done with Hugging Face's
library, whose cache of words is emptied and filled in the same way.`

func newBenchTokenizer() *cobra.Command {
	var model, file, python string
	var asJSON bool
	c := &cobra.Command{
		Use:   "tokenizer --tokenizer F --file TEXT",
		Short: "Measure encoding speed on one core: new text, emptied caches, first call, same text again",
		Long:  tokenizerHelp,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if model == "" || file == "" {
				return usagef("--tokenizer and --file are both needed")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if len(text) == 0 {
				return fmt.Errorf("%s is empty", file)
			}
			r, err := benchTokenizer(model, strings.ToValidUTF8(string(text), "\uFFFD"))
			if err == nil && python != "" {
				r.HuggingFace, err = benchReference(c.Context(), python, model, file, r.encodeRates)
			}
			if err != nil {
				return err
			}
			r.Tokenizer, r.File = model, file
			if asJSON {
				return printJSON(c, r)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), r.String())
			return err
		},
	}
	c.Flags().StringVar(&model, "tokenizer", "", "model folder, tokenizer.json or .gguf file")
	c.Flags().StringVar(&file, "file", "", "text to encode")
	c.Flags().StringVar(&python, "hf", "", "a Python with Hugging Face's tokenizers, to be measured beside")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (r *tokenizerReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d bytes, %d tokens; loaded in %.0f ms, heap %.0f MB, %.1f allocations a call\n", r.Bytes, r.Tokens, r.LoadMS, r.HeapMB, r.AllocsPerCall)
	fmt.Fprintf(&b, "%-10s%10s", "", "MB/s")
	h := r.HuggingFace
	if h != nil {
		fmt.Fprintf(&b, "  Hugging Face %s  times that", h.Version)
	}
	line := func(name string, ours float64, theirs, times func() float64) {
		fmt.Fprintf(&b, "\n%-10s%10.1f", name, ours)
		if h != nil {
			fmt.Fprintf(&b, "%*.2f%12.0f", len(h.Version)+15, theirs(), times())
		}
	}
	line("new text", r.New, func() float64 { return h.New }, func() float64 { return h.SpeedUp.New })
	line("emptied", r.Emptied, func() float64 { return h.Emptied }, func() float64 { return h.SpeedUp.Emptied })
	line("first", r.First, func() float64 { return h.First }, func() float64 { return h.SpeedUp.First })
	line("again", r.Again, func() float64 { return h.Again }, func() float64 { return h.SpeedUp.Again })
	if c := r.Chat; c != nil {
		b.WriteString("\nthe first 480 kB, ms: ")
		if c.NewMS > 0 {
			fmt.Fprintf(&b, "%.2f new text, ", c.NewMS)
		}
		fmt.Fprintf(&b, "%.2f emptied, %.2f first, %.2f again", c.EmptiedMS, c.FirstMS, c.AgainMS)
	}
	b.WriteString("\n")
	return b.String()
}
