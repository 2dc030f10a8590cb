package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trace"
	"github.com/kvasir-ai/kvasir/router"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into testdata (read the diff before you commit it)")

// TestScenarios plays the stories in testdata: commands, a line of dashes, what
// they print, an empty line. Lines that start with # tell the story.
//
//	fleet [workers=N] [blocks=N] [chunk=N] [batch=N] [cpu=N] [disk=N] [delay=DURATION] [gateways=N]
//	      [slower=1,2] [join=N@DURATION] [leave=N@DURATION]
//	request at=MS input=N output=N blocks=ID,ID,...
//	run POLICY      what became of every request, in the order in which they ended
//
// Blocks hold 10 tokens. A token of a prompt takes 1 ms, a decode step 10 ms, and a
// block 1 ms on its way up.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s reads now (-rewrite accepts it):\n%s", file, got)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	var out, printed bytes.Buffer
	s := scenario{trace: trace.Trace{BlockSize: 10}}
	inOutput := false
	for line := range strings.SplitAfterSeq(script, "\n") {
		text := strings.TrimSpace(line)
		if inOutput {
			if inOutput = text != ""; inOutput {
				continue
			}
		}
		out.WriteString(line)
		switch {
		case text == "----":
			out.Write(printed.Bytes())
			printed.Reset()
			inOutput = true
		case text != "" && text[0] != '#':
			if err := s.command(&printed, strings.Fields(text)); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
	return out.String()
}

type scenario struct {
	options Options
	trace   trace.Trace
}

// handful is a timing whose sums can be done in the head.
type handful struct{}

func (handful) StepMS(s *Step) float64 {
	tokens := 0
	for _, c := range s.Prefills {
		tokens += c.Tokens
	}
	return max(10, float64(tokens))
}

func (handful) TokenBytes() int { return 1e5 }

func (s *scenario) command(out *bytes.Buffer, words []string) error {
	args := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(args[name]); err == nil {
			return n
		}
		return otherwise
	}
	switch words[0] {
	case "fleet":
		return s.fleet(args, number)
	case "request":
		r := trace.Request{At: time.Duration(number("at", 0)) * time.Millisecond, Input: number("input", 0), Output: number("output", 1)}
		for id := range strings.SplitSeq(args["blocks"], ",") {
			n, err := strconv.ParseUint(id, 10, 64)
			if err != nil {
				return err
			}
			r.Blocks = append(r.Blocks, n)
		}
		s.trace.Requests = append(s.trace.Requests, r)
	case "run":
		return s.run(out, words[1])
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (s *scenario) fleet(args map[string]string, number func(string, int) int) (err error) {
	o := DefaultOptions()
	o.Timing, o.Rates = handful{}, router.Rates{PrefillPerTokenMS: 1}
	o.Workers, o.BlocksPerWorker, o.Gateways = number("workers", 1), number("blocks", 100), number("gateways", 1)
	o.ChunkTokens, o.MaxBatch = number("chunk", 100), number("batch", 10)
	o.Tiers.CPUBlocks, o.Tiers.DiskBlocks = number("cpu", 0), number("disk", 0)
	for t := range o.Tiers.Up {
		o.Tiers.Up[t], o.Tiers.Down[t] = Link{GBps: 1}, Link{GBps: 1}
	}
	if d := args["delay"]; d != "" {
		if o.EventDelay, err = time.ParseDuration(d); err != nil {
			return err
		}
	}
	for f := range strings.SplitSeq(args["slower"], ",") {
		if x, err := strconv.ParseFloat(f, 64); err == nil {
			o.Slower = append(o.Slower, x)
		}
	}
	for _, verb := range []string{"join", "leave"} {
		if worker, at, ok := strings.Cut(args[verb], "@"); ok {
			c := Change{Leaves: verb == "leave"}
			if c.Worker, err = strconv.Atoi(worker); err != nil {
				return err
			}
			if c.At, err = time.ParseDuration(at); err != nil {
				return err
			}
			o.Changes = append(o.Changes, c)
		}
	}
	s.options, s.trace.Requests = o, nil
	return nil
}

func (s *scenario) run(out *bytes.Buffer, policy string) error {
	o := s.options
	o.Policy = policy
	var ended []Outcome
	o.Ended = func(x Outcome) { ended = append(ended, x) }
	r, err := Run(&s.trace, o)
	if err != nil {
		return err
	}
	slices.SortStableFunc(ended, func(a, b Outcome) int { return int(a.EndedMS*1000) - int(b.EndedMS*1000) })
	for _, x := range ended {
		fmt.Fprintf(out, "request %d on %s: first token after %.0f ms (%.0f predicted), ended at %.0f", x.Request, x.Worker, x.TTFTMS, x.PredictedMS, x.EndedMS)
		for t, n := range x.Cached {
			if n > 0 {
				fmt.Fprintf(out, "; %d tokens from %s", n, kv.Tier(t))
			}
		}
		if x.Preempted > 0 {
			fmt.Fprintf(out, "; preempted %d times", x.Preempted)
		}
		out.WriteByte('\n')
	}
	fmt.Fprintf(out, "hit %.3f, TTFT %.0f ms, TPOT %.1f ms\n", r.HitRate, r.TTFTMeanMS, r.TPOTMeanMS)
	return nil
}
