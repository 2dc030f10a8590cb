package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

// tokenizerReport is what `bench tokenizer --json` prints.
type tokenizerReport struct {
	Tokenizer     string  `json:"tokenizer"`
	File          string  `json:"file"`
	Bytes         int     `json:"bytes"`
	Tokens        int     `json:"tokens"`
	MBPerS        float64 `json:"mb_per_s"`      // a fresh tokenizer's first call, one core
	MBPerSWarm    float64 `json:"mb_per_s_warm"` // its later calls
	AllocsPerCall float64 `json:"allocs_per_call"`
	LoadMS        float64 `json:"load_ms"`
}

func newBenchTokenizer() *cobra.Command {
	var model, file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "tokenizer --tokenizer F --file TEXT",
		Short: "Measure encoding speed on one core, cold and warm",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if model == "" || file == "" {
				return usagef("--tokenizer and --file are both needed")
			}
			r, err := benchTokenizer(model, file)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, r)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d bytes, %d tokens: %.1f MB/s cold, %.1f warm, %.1f allocations a call, loaded in %.0f ms\n",
				r.Bytes, r.Tokens, r.MBPerS, r.MBPerSWarm, r.AllocsPerCall, r.LoadMS)
			return err
		},
	}
	c.Flags().StringVar(&model, "tokenizer", "", "model folder, tokenizer.json or .gguf file")
	c.Flags().StringVar(&file, "file", "", "text to encode")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func benchTokenizer(model, file string) (tokenizerReport, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return tokenizerReport{}, err
	}
	if len(text) == 0 {
		return tokenizerReport{}, fmt.Errorf("%s is empty", file)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 5
	s := string(text)
	ids := make([]uint32, 0, len(s)+16)
	var cold, warm, load []float64
	for range rounds {
		t0 := time.Now()
		t, err := tokenizer.Load(model)
		if err != nil {
			return tokenizerReport{}, err
		}
		load = append(load, time.Since(t0).Seconds()*1e3)
		runtime.GC() // loading's garbage is not encoding's cost
		cold = append(cold, rate(t, ids, s))
		for range rounds {
			warm = append(warm, rate(t, ids, s))
		}
	}
	t, err := tokenizer.Load(model)
	if err != nil {
		return tokenizerReport{}, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty pools and count as ours
	return tokenizerReport{
		Tokenizer: model, File: file, Bytes: len(s), Tokens: len(t.Encode(ids, s, false)),
		MBPerS: median(cold), MBPerSWarm: median(warm), LoadMS: median(load),
		AllocsPerCall: testing.AllocsPerRun(3, func() { t.Encode(ids, s, false) }),
	}, nil
}

// rate encodes once and returns MB/s.
func rate(t *tokenizer.Tokenizer, ids []uint32, s string) float64 {
	t0 := time.Now()
	t.Encode(ids, s, false)
	return float64(len(s)) / 1e6 / time.Since(t0).Seconds()
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
