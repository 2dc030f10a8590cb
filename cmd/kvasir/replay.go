package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/sim"
	"github.com/kvasir-ai/kvasir/internal/trace"
	"github.com/kvasir-ai/kvasir/router"
)

// replayFlags are replay's, besides those that go straight into sim.Options.
type replayFlags struct {
	trace     string
	blockSize int
	synthetic trace.Synthetic
	rate      float64
	policies  string
	timing    string
	calibrate string
	slower    string
	changes   []string
	parallel  int
	decisions bool
	report    string
	matrix    bool
	asJSON    bool
}

func newReplay() *cobra.Command {
	o := sim.DefaultOptions()
	o.Rates = gateway.DefaultRates
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Run a trace through the router in virtual time, policies side by side",
		Long: `Replays a trace, or a workload made up from a seed, through simulated engines, once
for each policy. The router, its ledger and calibration, the prefix index and the
tiers' eviction are the gateway's own code; what is simulated is the engines' time.

Times come from a timing: h200-llama-8b was measured on vLLM, mocker is NVIDIA
Dynamo's, and a JSON file may hold others (see docs/benchmarks.md).`,
		Example: `  kvasir replay --trace conversation_trace.jsonl.gz --workers 8 --blocks-per-worker 4096
  kvasir replay --synthetic agents --requests 5000 --per-second 20 --policy predicted,dynamo`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.decisions {
				o.Clock = time.Now
			}
			return replay(c, &f, o)
		},
	}
	f.register(c.Flags(), &o)
	return c
}

func (f *replayFlags) register(fs *pflag.FlagSet, o *sim.Options) {
	fs.StringVar(&f.trace, "trace", "", "trace file in Mooncake's format, JSON lines, gzipped or not")
	fs.IntVar(&f.blockSize, "block-size", 512, "tokens of a block of the trace")
	fs.StringVar(&f.synthetic.Kind, "synthetic", "", "instead of a trace, make one up: "+strings.Join(trace.Kinds(), ", "))
	fs.IntVar(&f.synthetic.Requests, "requests", 10_000, "requests of a made-up trace")
	fs.Float64Var(&f.synthetic.PerSecond, "per-second", 10, "arrival rate of a made-up trace")
	fs.Float64Var(&f.rate, "rate", 1, "factor on the arrival rate")
	fs.StringVar(&f.policies, "policy", "all", "policies, separated by commas, or all: "+strings.Join(router.Policies(), ", "))
	fs.Uint64Var(&o.Seed, "seed", 0, "of the router's ties and of a made-up trace")
	fs.IntVar(&o.Workers, "workers", o.Workers, "workers in the simulated fleet")
	fs.IntVar(&o.BlocksPerWorker, "blocks-per-worker", 0, "KV blocks of each worker's engine; 0: all of the trace fits")
	fs.StringVar(&f.timing, "timing", "h200-llama-8b", "how long engines take: "+strings.Join(sim.Timings(), ", ")+", or a JSON file")
	fs.StringVar(&f.calibrate, "calibrate", "", "fit the timing to the requests in this result of kvasir bench serve --json")
	fs.IntVar(&o.ChunkTokens, "chunk-tokens", o.ChunkTokens, "tokens an engine computes in one step at most")
	fs.IntVar(&o.MaxBatch, "max-batch", o.MaxBatch, "requests an engine runs at once at most")
	fs.StringVar(&f.slower, "slower", "", "factors on the workers' times, in turn, such as 1,1,2: every third is half as fast")
	fs.IntVar(&o.Tiers.CPUBlocks, "cpu-blocks", 0, "blocks of each worker's cpu tier")
	fs.IntVar(&o.Tiers.DiskBlocks, "disk-blocks", 0, "blocks of each worker's disk tier")
	fs.IntVar(&o.Tiers.RedisBlocks, "redis-blocks", 0, "blocks of the Redis tier that all share")
	for t := kv.CPU; t <= kv.Redis; t++ {
		fs.Float64Var(&o.Tiers.Up[t].GBps, t.String()+"-gbps", o.Tiers.Up[t].GBps, "GB/s of a worker's link up from "+t.String())
	}
	fs.IntVar(&o.Gateways, "gateways", o.Gateways, "gateways that requests go to in turn; they see each other in the workers' reports")
	fs.DurationVar(&o.EventDelay, "event-delay", 0, "how late gateways learn what became of blocks")
	fs.DurationVar(&o.ReportEvery, "report-every", o.ReportEvery, "how often workers report their load")
	fs.StringSliceVar(&f.changes, "change", nil, "a worker that comes or goes: join:N@TIME or leave:N@TIME, N from 0, such as leave:3@20m")
	fs.DurationVar(&o.SLOTTFT, "slo-ttft", o.SLOTTFT, "time to first token that counts as good")
	fs.DurationVar(&o.SLOTPOT, "slo-tpot", o.SLOTPOT, "time per further token that counts as good")
	fs.IntVar(&f.parallel, "parallel", 1, "policies replayed at the same time")
	fs.BoolVar(&f.decisions, "time-decisions", false, "measure what decisions take on this machine")
	fs.StringVar(&f.report, "report", "", "write an HTML page with plots to this file")
	fs.BoolVar(&f.matrix, "matrix", false, "compare over fleets of different kinds, each at 40, 70 and 90 % of its saturation rate")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object")
}

// load is the trace that the flags name, at the rate that they want.
func (f *replayFlags) load(seed uint64) (t *trace.Trace, err error) {
	switch {
	case (f.trace == "") == (f.synthetic.Kind == ""):
		return nil, usagef("give either --trace FILE or --synthetic WORKLOAD")
	case !(f.rate > 0):
		return nil, usagef("--rate %v: want above 0", f.rate)
	case f.trace != "":
		t, err = trace.ReadFile(f.trace, f.blockSize)
	default:
		f.synthetic.BlockSize, f.synthetic.Seed = f.blockSize, seed
		t, err = trace.Synthesize(f.synthetic)
	}
	if err != nil {
		return nil, err
	}
	return t.Scale(f.rate), nil
}

// names are the policies to run.
func (f *replayFlags) names() ([]string, error) {
	if f.policies == "all" {
		return router.Policies(), nil
	}
	names := strings.Split(f.policies, ",")
	for _, n := range names {
		if !slices.Contains(router.Policies(), n) {
			return nil, usagef("--policy %s: there is no policy %q; use all, or some of %s", f.policies, n, strings.Join(router.Policies(), ", "))
		}
	}
	return names, nil
}

// fill parses what is written in one flag.
func (f *replayFlags) fill(o *sim.Options) (err error) {
	if o.Timing, err = sim.NewTiming(f.timing); err != nil {
		return usagef("--timing: %w", err)
	}
	if f.calibrate != "" {
		if o.Timing, err = calibrated(o.Timing, f.calibrate); err != nil {
			return usagef("--calibrate: %w", err)
		}
	}
	for s := range strings.SplitSeq(f.slower, ",") {
		if s == "" {
			continue
		}
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return usagef("--slower %s: %q is no number", f.slower, s)
		}
		o.Slower = append(o.Slower, x)
	}
	for _, s := range f.changes {
		c, err := parseChange(s)
		if err != nil {
			return usagef("--change %s: %w", s, err)
		}
		o.Changes = append(o.Changes, c)
	}
	return nil
}

// calibrated is the timing at the speed that a bench result shows.
func calibrated(t sim.Timing, path string) (sim.Timing, error) {
	m, ok := t.(*sim.Measured)
	if !ok {
		return nil, errors.New("only measured timings can be fitted: leave --timing mocker out")
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return m.Calibrate(r)
}

// parseChange reads join:3@20m.
func parseChange(s string) (c sim.Change, err error) {
	verb, rest, _ := strings.Cut(s, ":")
	number, at, ok := strings.Cut(rest, "@")
	if !ok || verb != "join" && verb != "leave" {
		return c, fmt.Errorf("want join:N@TIME or leave:N@TIME")
	}
	c.Leaves = verb == "leave"
	if c.Worker, err = strconv.Atoi(number); err != nil {
		return c, err
	}
	c.At, err = time.ParseDuration(at)
	return c, err
}
