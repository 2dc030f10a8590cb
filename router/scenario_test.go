package router

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
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into testdata (read the diff before you commit it)")

// TestScenarios plays the stories in testdata: commands, a line of dashes, what
// they print, an empty line. Lines that start with # tell the story.
//
//	request tokens=N [block=N] [session=S]      the prompt that is decided about
//	worker NAME [key=value ...]                 adds or changes one: holds=gpu:10,cpu+disk:5 queue=MS
//	                                            running=N waiting=N free=SHARE slower=FACTOR
//	                                            role=prefill|decode adapter=free|full
//	link WORKER|all TIER|handoff latency=MS gbps=N [queued=MB]
//	peers                                       from now on workers pull from each other's cpu tier
//	remove NAME
//	decide POLICY                               every candidate's sum, and the choice
//	send POLICY n=N every=MS [answer=MS]        N such requests; a worker holds the prompt in its gpu
//	                                            once it has prefilled it, and runs it for answer ms
//	plan POLICY n=N                             N requests at one moment, restored but not answered
//	converse POLICY sessions=N turns=N tokens=N each turn adds tokens to its session's prompt, which stays
//	                                            in the gpu of the worker that served it
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
			got := newScenario().play(t, string(want))
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

// scenario is a fleet as a story has it.
type scenario struct {
	request Request
	workers []*Candidate
	ledger  *Ledger
	seed    uint64
	peering bool
	peers   Peers
}

func newScenario() *scenario {
	return &scenario{request: Request{ID: "r", BlockSize: 16}, ledger: NewLedger()}
}

// play runs a script and returns it with its output as it is now.
func (s *scenario) play(t *testing.T, script string) string {
	var out bytes.Buffer
	inOutput := false
	var printed bytes.Buffer
	for line := range strings.SplitAfterSeq(script, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case inOutput:
			inOutput = text != ""
			if !inOutput {
				out.WriteString(line)
			}
		case text == "----":
			out.WriteString(line)
			out.Write(printed.Bytes())
			printed.Reset()
			inOutput = true
		default:
			out.WriteString(line)
			if text != "" && text[0] != '#' {
				if err := s.run(&printed, strings.Fields(text)); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
		}
	}
	return out.String()
}

func (s *scenario) run(out *bytes.Buffer, words []string) error {
	args, err := parse(words[1:])
	if err != nil {
		return err
	}
	switch words[0] {
	case "request":
		s.request.Tokens = int(args.number("tokens", 0))
		s.request.BlockSize = int(args.number("block", 16))
		s.request.Session = args.named["session"]
	case "worker":
		return s.change(s.worker(args.plain[0]), args)
	case "link":
		return s.link(args)
	case "peers":
		s.peering = true
	case "plan":
		return s.plan(out, args)
	case "converse":
		return s.converse(out, args)
	case "remove":
		s.workers = slices.DeleteFunc(s.workers, func(c *Candidate) bool { return string(c.Worker) == args.plain[0] })
	case "decide":
		return s.decide(out, args.plain[0])
	case "send":
		return s.send(out, args)
	default:
		return fmt.Errorf("no such command")
	}
	return args.err
}

func (s *scenario) worker(name string) *Candidate {
	for _, c := range s.workers {
		if string(c.Worker) == name {
			return c
		}
	}
	c := &Candidate{Worker: kv.WorkerID(name), Rates: h200, Load: Load{FreeKVShare: 1}}
	c.Rates.BlockBytes = 16 * 128 << 10 // an 8B model's, 128 KiB a token
	c.Rates.AdapterLoadMS = 80
	c.Rates.Handoff = Link{LatencyMS: 1, BytesPerMS: 25e6}
	for tier, gbps := range map[kv.Tier]float64{kv.CPU: 55, kv.Disk: 5, kv.Redis: 1, kv.Peer: 10} {
		c.Rates.Links[tier] = Link{LatencyMS: 0.5, BytesPerMS: gbps * 1e6}
	}
	s.workers = append(s.workers, c)
	return c
}

func (s *scenario) change(c *Candidate, args arguments) (err error) {
	c.Load.QueuedPrefillMS = args.number("queue", c.Load.QueuedPrefillMS)
	c.Load.Running = int(args.number("running", float64(c.Load.Running)))
	c.Load.Waiting = int(args.number("waiting", float64(c.Load.Waiting)))
	c.Load.FreeKVShare = args.number("free", c.Load.FreeKVShare)
	slower := args.number("slower", 1)
	c.Rates.PrefillBaseMS *= slower
	c.Rates.PrefillPerTokenMS *= slower
	c.Rates.PrefillPerTokenContextMS *= slower
	for key, into := range map[string]interface{ UnmarshalText([]byte) error }{"role": &c.Role, "adapter": &c.Adapter} {
		if text, ok := args.named[key]; ok {
			if err := into.UnmarshalText([]byte(text)); err != nil {
				return err
			}
		}
	}
	if holds, ok := args.named["holds"]; ok {
		c.Spans, err = parseSpans(holds)
	}
	return err
}

func (s *scenario) link(args arguments) error {
	link := Link{LatencyMS: args.number("latency", 0.5), BytesPerMS: args.number("gbps", 0) * 1e6, QueuedBytes: int64(args.number("queued", 0) * 1e6)}
	for _, c := range s.workers {
		if args.plain[0] != "all" && args.plain[0] != string(c.Worker) {
			continue
		}
		if args.plain[1] == "handoff" {
			c.Rates.Handoff = link
			continue
		}
		tier, err := kv.ParseTier(args.plain[1])
		if err != nil {
			return err
		}
		c.Rates.Links[tier] = link
	}
	return args.err
}

// candidates are the workers with what the ledger has on them.
func (s *scenario) candidates() []Candidate {
	cs := make([]Candidate, len(s.workers))
	for i, c := range s.workers {
		cs[i] = *c
		own := s.ledger.Load(c.Worker, s.request.Now)
		cs[i].Load.QueuedPrefillMS += own.QueuedPrefillMS
		cs[i].Load.Running += own.Running
		cs[i].Load.Waiting += own.Waiting
		cs[i].Load.QueuedPrefillTokens += own.QueuedPrefillTokens
		cs[i].Load.ActiveBlocks += own.ActiveBlocks
		s.ledger.Account(c.Worker).Queue(&cs[i].Rates, s.request.Now)
	}
	if s.peering {
		s.peers.Add(&s.request, cs)
	}
	return cs
}

func (s *scenario) decide(out *bytes.Buffer, name string) error {
	p, err := NewPolicy(name, s.seed)
	if err != nil {
		return err
	}
	d := p.Decide(s.request, s.candidates())
	for i, e := range d.Estimates {
		mark := " "
		if i == d.Chosen {
			mark = "*"
		}
		fmt.Fprintf(out, "%s %s: queue %.1f + restore %.1f + prefill %.1f", mark, appendRoute(nil, &e), e.QueueMS, e.RestoreMS, e.PrefillMS)
		if e.AdapterMS > 0 {
			fmt.Fprintf(out, " + adapter %.1f", e.AdapterMS)
		}
		if e.Split != nil {
			fmt.Fprintf(out, " + transfer %.1f", e.TransferMS)
		}
		fmt.Fprintf(out, " = %.1f ms; harm %.1f; score %.1f; %s\n", e.TTFTMS, e.HarmMS, e.ScoreMS, appendPlan(nil, &e))
	}
	fmt.Fprintf(out, "%s: %s\n", name, d.Why)
	return nil
}

// send routes requests for one prompt, one after the other. A worker takes
// exactly as long as predicted.
func (s *scenario) send(out *bytes.Buffer, args arguments) error {
	p, err := NewPolicy(args.plain[0], s.seed)
	if err != nil {
		return err
	}
	type ending struct {
		at    time.Time
		id    string
		first bool
	}
	var endings []ending
	sent := map[kv.WorkerID]int{}
	worst := 0.0
	var order []string
	for i := range int(args.number("n", 1)) {
		s.request.Now = s.request.Now.Add(time.Duration(args.number("every", 0) * 1e6))
		slices.SortStableFunc(endings, func(a, b ending) int { return a.at.Compare(b.at) })
		for len(endings) > 0 && !endings[0].at.After(s.request.Now) {
			e := endings[0]
			endings = endings[1:]
			if e.first {
				s.ledger.FirstToken(e.id, e.at)
			} else {
				s.ledger.Done(e.id, e.at)
			}
		}
		s.request.ID = fmt.Sprint("r", i)
		d := p.Decide(s.request, s.candidates())
		e := d.Estimates[d.Chosen]
		s.ledger.Add(s.request.ID, e.Worker, e, s.request.Now)
		first := s.request.Now.Add(time.Duration(e.TTFTMS * 1e6))
		answer := time.Duration(args.number("answer", 1000) * 1e6)
		endings = append(endings, ending{first, s.request.ID, true}, ending{first.Add(answer), s.request.ID, false})
		s.workers[d.Chosen].Spans = []kv.Span{{Blocks: s.request.blocks(), Tiers: kv.Tiers(kv.GPU)}}
		sent[e.Worker]++
		worst = max(worst, e.TTFTMS)
		order = append(order, string(e.Worker))
	}
	for _, e := range endings {
		s.ledger.Done(e.id, e.at)
	}
	fmt.Fprintf(out, "%s: %s\n", args.plain[0], strings.Join(order, " "))
	for _, c := range s.workers {
		fmt.Fprintf(out, "%s got %d; ", c.Worker, sent[c.Worker])
	}
	fmt.Fprintf(out, "the longest wait was %.0f ms\n", worst)
	return args.err
}

// plan decides about requests that all come at once, and notes their transfers.
func (s *scenario) plan(out *bytes.Buffer, args arguments) error {
	p, err := NewPolicy(args.plain[0], s.seed)
	if err != nil {
		return err
	}
	for i := range int(args.number("n", 1)) {
		s.request.ID = fmt.Sprint("r", i)
		cs := s.candidates()
		d := p.Decide(s.request, cs)
		e := &d.Estimates[d.Chosen]
		s.ledger.Account(e.Worker).Plan(e, &cs[d.Chosen].Rates, s.request.Now)
		fmt.Fprintf(out, "%s: restore %.1f + prefill %.1f = %.1f ms; %s\n", e.Worker, e.RestoreMS, e.PrefillMS, e.TTFTMS, appendPlan(nil, e))
	}
	return args.err
}

// converse plays conversations, turn by turn, each answered before the next.
func (s *scenario) converse(out *bytes.Buffer, args arguments) error {
	p, err := NewPolicy(args.plain[0], s.seed)
	if err != nil {
		return err
	}
	sessions := int(args.number("sessions", 1))
	held := make([]map[kv.WorkerID]int, sessions)
	went := make([][]string, sessions)
	for turn := range int(args.number("turns", 1)) {
		for i := range sessions {
			if held[i] == nil {
				held[i] = map[kv.WorkerID]int{}
			}
			s.request.ID, s.request.Tokens = fmt.Sprint("r", turn, i), int(args.number("tokens", 1000))*(turn+1)
			cs := s.candidates()
			for k := range cs {
				if n := held[i][cs[k].Worker]; n > 0 {
					cs[k].Spans = []kv.Span{{Blocks: n, Tiers: kv.Tiers(kv.GPU)}}
				}
			}
			d := p.Decide(s.request, cs)
			held[i][d.Worker()] = s.request.Tokens / s.request.BlockSize
			went[i] = append(went[i], string(d.Worker()))
			s.ledger.Add(s.request.ID, d.Worker(), d.Estimates[d.Chosen], s.request.Now)
			s.ledger.FirstToken(s.request.ID, s.request.Now)
		}
		for i := range sessions {
			s.ledger.Done(fmt.Sprint("r", turn, i), s.request.Now)
		}
	}
	for i := range went {
		fmt.Fprintf(out, "session %d: %s\n", i, strings.Join(went[i], " "))
	}
	return args.err
}

// arguments are a command's words: plain ones and key=value.
type arguments struct {
	plain []string
	named map[string]string
	err   error
}

func parse(words []string) (arguments, error) {
	a := arguments{named: map[string]string{}}
	for _, w := range words {
		if key, value, ok := strings.Cut(w, "="); ok {
			a.named[key] = value
		} else {
			a.plain = append(a.plain, w)
		}
	}
	return a, nil
}

func (a *arguments) number(key string, otherwise float64) float64 {
	text, ok := a.named[key]
	if !ok {
		return otherwise
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		a.err = err
	}
	return v
}

// parseSpans reads "gpu:10,cpu+disk:5".
func parseSpans(text string) (spans []kv.Span, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		names, count, _ := strings.Cut(part, ":")
		span := kv.Span{}
		if span.Blocks, err = strconv.Atoi(count); err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(names, "+") {
			tier, err := kv.ParseTier(name)
			if err != nil {
				return nil, err
			}
			span.Tiers = span.Tiers.With(tier)
		}
		spans = append(spans, span)
	}
	return spans, nil
}
