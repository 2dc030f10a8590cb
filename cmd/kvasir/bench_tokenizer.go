package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

// tokenizerReport is what `bench tokenizer --json` prints. Rates are of one
// core's own time, so that a busy machine's other work does not count.
type tokenizerReport struct {
	Tokenizer     string           `json:"tokenizer"`
	File          string           `json:"file"`
	Bytes         int              `json:"bytes"`
	Tokens        int              `json:"tokens"`
	MBPerS        float64          `json:"mb_per_s"`      // a fresh tokenizer's first call
	MBPerSWarm    float64          `json:"mb_per_s_warm"` // its later calls
	AllocsPerCall float64          `json:"allocs_per_call"`
	LoadMS        float64          `json:"load_ms"`
	HeapMB        float64          `json:"heap_mb"` // after encoding the file
	Chat          *chatReport      `json:"chat,omitempty"`
	HuggingFace   *referenceReport `json:"hugging_face,omitempty"`
}

// chatReport is of the file's first 480 kB, as a long conversation would be.
type chatReport struct {
	ColdMS float64 `json:"cold_ms"`
	WarmMS float64 `json:"warm_ms"`
}

const chatBytes = 480_000

func newBenchTokenizer() *cobra.Command {
	var model, file, python string
	var asJSON bool
	c := &cobra.Command{
		Use:   "tokenizer --tokenizer F --file TEXT",
		Short: "Measure encoding speed on one core, cold and warm",
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
			r, err := benchTokenizer(model, string(text))
			if err == nil && python != "" {
				r.HuggingFace, err = benchReference(c.Context(), python, model, file, r.MBPerS)
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
	s := fmt.Sprintf("%d bytes, %d tokens: %.1f MB/s cold, %.1f warm, %.1f allocations a call, loaded in %.0f ms, heap %.0f MB\n",
		r.Bytes, r.Tokens, r.MBPerS, r.MBPerSWarm, r.AllocsPerCall, r.LoadMS, r.HeapMB)
	if r.Chat != nil {
		s += fmt.Sprintf("the first 480 kB: %.2f ms cold, %.2f warm\n", r.Chat.ColdMS, r.Chat.WarmMS)
	}
	if h := r.HuggingFace; h != nil {
		s += fmt.Sprintf("Hugging Face tokenizers %s: %.2f MB/s; %.0f times that\n", h.Version, h.MBPerS, h.SpeedUp)
	}
	return s
}

func benchTokenizer(model, s string) (*tokenizerReport, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 5
	ids := make([]uint32, 0, len(s)+16)
	chat := s[:min(chatBytes, len(s))]
	var cold, warm, load, chatCold, chatWarm []float64
	var before, after runtime.MemStats
	r := &tokenizerReport{Bytes: len(s)}
	for range rounds {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var t *tokenizer.Tokenizer
		var err error
		load = append(load, 1e3*ownTime(func() { t, err = tokenizer.Load(model) }))
		if err != nil {
			return nil, err
		}
		runtime.GC() // loading's garbage is not encoding's cost
		encode := func(s string) float64 { return ownTime(func() { r.Tokens = len(t.Encode(ids, s, false)) }) }
		chatCold = append(chatCold, 1e3*encode(chat))
		for range rounds {
			chatWarm = append(chatWarm, 1e3*encode(chat))
		}
		if t, err = tokenizer.Load(model); err != nil {
			return nil, err
		}
		runtime.GC()
		cold = append(cold, float64(len(s))/1e6/encode(s))
		for range rounds {
			warm = append(warm, float64(len(s))/1e6/encode(s))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		// What pools still hold of the round before hides some of it.
		r.HeapMB = max(r.HeapMB, (float64(after.HeapAlloc)-float64(before.HeapAlloc))/1e6)
		r.AllocsPerCall = allocations(func() { t.Encode(ids, s, false) })
	}
	if len(chat) == chatBytes {
		r.Chat = &chatReport{median(chatCold), median(chatWarm)}
	}
	r.MBPerS, r.MBPerSWarm, r.LoadMS = median(cold), median(warm), median(load)
	return r, nil
}

// allocations a call of f makes. A collection would empty pools and count as ours.
func allocations(f func()) float64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	return testing.AllocsPerRun(3, f)
}

// ownTime is the seconds that this process spends in f.
func ownTime(f func()) float64 {
	now := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	t0 := now()
	f()
	return (now() - t0).Seconds()
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
