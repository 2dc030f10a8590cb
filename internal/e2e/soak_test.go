package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

const soakClients = 32

// Must show f: mixed load with disconnects and bad requests; no error, memory
// and goroutines flat, laws hold. KVASIR_SOAK is how long (make soak: 10m);
// without it a minute under the race detector, which is where it pays most, and
// ten seconds otherwise.
func TestSoak(t *testing.T) {
	length := 10 * time.Second
	if raceEnabled {
		length = time.Minute
	}
	if s := os.Getenv("KVASIR_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	g := startUp(t, []string{
		"KVASIR_CACHE=" + t.TempDir(), "KVASIR_AGENT_EMBEDDED_GPU_BLOCKS=300",
		"KVASIR_TIERS_CPU=4MiB", "KVASIR_TIERS_DISK_PATH=" + t.TempDir(), "KVASIR_TIERS_DISK_SIZE=64MiB",
	}, "--workers", "2")
	s := &soak{g: g, model: tinyName(g), seed: trial.Seed(t)}

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range soakClients {
		wg.Go(func() { s.client(ctx, i) })
	}
	samples := s.sample(ctx)
	wg.Wait()

	t.Logf("%d requests in %v, %d of them broken off, %d refused as they should be", s.served.Load(), length, s.brokenOff.Load(), s.refused.Load())
	if s.served.Load() < soakClients {
		t.Errorf("only %d requests were served", s.served.Load())
	}
	for _, e := range s.errors {
		t.Error(e)
	}
	s.checkFlat(t, samples)
	s.checkLaws(t)
}

type soak struct {
	g                          gateway
	model                      string
	seed                       uint64
	served, brokenOff, refused atomic.Int64

	mu     sync.Mutex
	errors []error // the first few
}

func (s *soak) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errors) < 10 {
		s.errors = append(s.errors, err)
	}
}

func (s *soak) client(ctx context.Context, n int) {
	r := rand.New(rand.NewPCG(s.seed, uint64(n)))
	for ctx.Err() == nil {
		var err error
		switch r.IntN(10) {
		case 0:
			err = s.breakOff(r)
		case 1:
			err = s.expectRefusal(r)
		case 2, 3:
			err = s.unary("/v1/completions", map[string]any{"prompt": s.prompt(r), "max_tokens": 1 + r.IntN(16)})
		case 4, 5:
			err = s.unary("/v1/chat/completions", map[string]any{"messages": s.messages(r), "max_tokens": 1 + r.IntN(16)})
		default:
			err = s.stream(r)
		}
		if err != nil {
			s.fail(err)
		}
	}
}

// prompt is one of a few shared beginnings and an end of its own.
func (s *soak) prompt(r *rand.Rand) string {
	return essay(strconv.Itoa(r.IntN(12)), 20+r.IntN(60)) + strconv.Itoa(r.IntN(1000))
}

func (s *soak) messages(r *rand.Rand) []map[string]string {
	return []map[string]string{{"role": "user", "content": s.prompt(r)}}
}

func (s *soak) post(ctx context.Context, path string, body map[string]any) (*http.Response, error) {
	if body["model"] == nil {
		body["model"] = s.model
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.g.url+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

func (s *soak) unary(path string, body map[string]any) error {
	r, err := s.post(context.Background(), path, body)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	var answer struct {
		Choices []json.RawMessage
		Usage   struct {
			CompletionTokens int `json:"completion_tokens"`
		}
	}
	if err != nil || r.StatusCode != http.StatusOK || json.Unmarshal(b, &answer) != nil || len(answer.Choices) != 1 || answer.Usage.CompletionTokens == 0 {
		return fmt.Errorf("%s: %s %v %.300s", path, r.Status, err, b)
	}
	s.served.Add(1)
	return nil
}

func (s *soak) stream(r *rand.Rand) error {
	res, err := s.post(context.Background(), "/v1/chat/completions", map[string]any{
		"messages": s.messages(r), "max_tokens": 1 + r.IntN(24), "stream": true, "stream_options": map[string]bool{"include_usage": true},
	})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !bytes.HasSuffix(b, []byte("data: [DONE]\n\n")) || !bytes.Contains(b, []byte(`"usage":{`)) {
		return fmt.Errorf("stream: %s %v ends %.300s", res.Status, err, b[max(0, len(b)-300):])
	}
	s.served.Add(1)
	return nil
}

// breakOff leaves in the middle of a stream.
func (s *soak) breakOff(r *rand.Rand) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	res, err := s.post(ctx, "/v1/chat/completions", map[string]any{"messages": s.messages(r), "max_tokens": 200, "stream": true})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := res.Body.Read(make([]byte, 64)); err != nil {
		return fmt.Errorf("stream to break off: %s %w", res.Status, err)
	}
	s.brokenOff.Add(1)
	return nil
}

func (s *soak) expectRefusal(r *rand.Rand) error {
	body, want := map[string]any{"messages": s.messages(r), "model": "no-such-model"}, http.StatusNotFound
	if r.IntN(2) == 0 {
		body, want = map[string]any{"messages": "not a list"}, http.StatusBadRequest
	}
	res, err := s.post(context.Background(), "/v1/chat/completions", body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		return fmt.Errorf("a bad request was answered %s, want %d", res.Status, want)
	}
	s.refused.Add(1)
	return nil
}

// sampled is the process at one moment.
type sampled struct {
	rss        int64 // bytes
	goroutines float64
}

// sample looks at the process ten times a tenth of the run, until ctx ends.
func (s *soak) sample(ctx context.Context) (samples []sampled) {
	end, _ := ctx.Deadline()
	tick := time.NewTicker(time.Until(end) / 100)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-tick.C:
			samples = append(samples, sampled{s.rss(), s.metric("go_goroutines")})
		}
	}
}

func (s *soak) rss() int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.g.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func (s *soak) metric(name string) float64 {
	v, err := metric(s.g.url, name, "")
	if err != nil {
		s.fail(err)
	}
	return v
}

// checkFlat compares the second quarter of the run with the last: by then
// caches are full and only a leak still grows.
func (s *soak) checkFlat(t *testing.T, samples []sampled) {
	n := len(samples)
	if n < 8 {
		t.Fatalf("%d samples", n)
	}
	middle := func(from, to int, of func(sampled) float64) float64 {
		var xs []float64
		for _, x := range samples[from:to] {
			xs = append(xs, of(x))
		}
		slices.Sort(xs)
		return xs[len(xs)/2]
	}
	rss := func(x sampled) float64 { return float64(x.rss) / (1 << 20) }
	goroutines := func(x sampled) float64 { return x.goroutines }
	before, after := middle(n/4, n/2, rss), middle(n*3/4, n, rss)
	t.Logf("RSS %.0f MiB, at the end %.0f; goroutines %.0f, at the end %.0f", before, after, middle(n/4, n/2, goroutines), middle(n*3/4, n, goroutines))
	if after > before*1.15+32 {
		t.Errorf("RSS grew from %.0f to %.0f MiB", before, after)
	}
	if b, a := middle(n/4, n/2, goroutines), middle(n*3/4, n, goroutines); a > b*1.25+20 {
		t.Errorf("goroutines grew from %.0f to %.0f", b, a)
	}
}

// checkLaws looks at the books once the load has ended.
func (s *soak) checkLaws(t *testing.T) {
	s.g.eventually("the load's pages are given back", func() error {
		for _, x := range s.g.tiers() {
			if x.Tier == "gpu" && x.Filling+x.Leased != 0 {
				return fmt.Errorf("%+v", x)
			}
		}
		return nil
	})
	for _, x := range s.g.tiers() {
		if x.Tier != "redis" && x.Free+x.Filling+x.Committed+x.Evicting != x.Capacity {
			t.Errorf("law 1: %+v", x)
		}
	}
	if n := s.metric("kvasir_gateway_in_flight"); n != 0 {
		t.Errorf("law 4: %v requests are still in flight", n)
	}
	added, released := s.metric("kvasir_router_ledger_added_total"), s.metric("kvasir_router_ledger_released_total")
	if added == 0 || added != released {
		t.Errorf("law 4: %v loads were booked and %v released", added, released)
	}
}
