package gateway

import (
	"bufio"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/gateway/tenants"
)

// plant is engines of known capacity: each serves so many requests at once, first
// come, first served. An answer takes half to one and a half times the service,
// its first token a twentieth of the service.
type plant struct {
	engines, slots int
	service        time.Duration
}

func (p plant) perSecond() float64 {
	return float64(p.engines*p.slots) / p.service.Seconds()
}

// overloaded runs a test of overload in virtual time, where what is measured is
// the gateway's decisions and nothing of the machine; with KVASIR_REAL_TIME over
// real sockets in real time, for figures.
func overloaded(t *testing.T, run func(t *testing.T, net *pipes)) {
	if os.Getenv("KVASIR_REAL_TIME") != "" {
		run(t, nil)
		return
	}
	synctest.Test(t, func(t *testing.T) { run(t, newPipes()) })
}

func (p plant) open(t *testing.T, net *pipes, change func(*Config)) *setting {
	s := newSettingOn(net, t, p.engines, func(c *Config) {
		c.Records = 256
		c.OnRequest = nil
		c.Log = nil
		change(c)
	})
	for i, e := range s.engines {
		rng := lockedRand(1, uint64(i))
		slots := make(chan struct{}, p.slots)
		e.forgets = true
		e.does(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-r.Context().Done():
				return true
			}
			time.Sleep(p.service / 20)
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write(events(roleChunk, contentChunk))
			w.(http.Flusher).Flush()
			time.Sleep(p.service/2 + time.Duration(rng(int(p.service))) - p.service/20)
			w.Write(events(`{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`, "[DONE]"))
			return true
		})
	}
	return s
}

// sample is how one request went.
type sample struct {
	who          string
	status       int
	retryAfter   string
	first, total time.Duration
	end          time.Time
	whole        bool
}

func (s *setting) sample(who string, header ...string) sample {
	began := time.Now()
	req, err := http.NewRequest(http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return sample{who: who}
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	_, _ = r.Peek(1) // the whole's end is judged below
	m := sample{who: who, status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), first: time.Since(began)}
	body, err := io.ReadAll(r)
	m.end = time.Now()
	m.total = m.end.Sub(began)
	m.whole = err == nil && strings.HasSuffix(string(body), "[DONE]\n\n")
	return m
}

// offered sends requests at a steady rate for a time, whatever becomes of them.
func (s *setting) offered(perSecond float64, length time.Duration, next func(i int) sample) []sample {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []sample
	began := time.Now()
	for i := range int(perSecond * length.Seconds()) {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		wg.Go(func() {
			m := next(i)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, m)
		})
	}
	wg.Wait()
	return all
}

// rate is how many a second ended well and in time, once the load was there and
// until it ended.
func rate(ms []sample, slo, length time.Duration, began time.Time) float64 {
	from, to := began.Add(length/4), began.Add(length)
	n := len(filter(ms, func(m sample) bool { return good(m) && m.first <= slo && m.end.After(from) && m.end.Before(to) }))
	return float64(n) / to.Sub(from).Seconds()
}

func quantile(ms []sample, q float64, of func(sample) time.Duration) time.Duration {
	if len(ms) == 0 {
		return 0
	}
	ds := make([]time.Duration, len(ms))
	for i, m := range ms {
		ds[i] = of(m)
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(math.Ceil(q*float64(len(ds))))-1)]
}

func filter(ms []sample, keep func(sample) bool) (kept []sample) {
	for _, m := range ms {
		if keep(m) {
			kept = append(kept, m)
		}
	}
	return kept
}

func first(m sample) time.Duration { return m.first }
func total(m sample) time.Duration { return m.total }
func good(m sample) bool           { return m.status == 200 && m.whole }
func refused(m sample) bool        { return m.status == 429 }

// decisionTime is how long a refusal may take: in virtual time nothing at all.
func decisionTime(net *pipes) time.Duration {
	if net == nil {
		return 5 * time.Millisecond
	}
	return 0
}

// Ten times what the engines can do: every request is served whole and in time
// or refused at once with when to come back, as many are served as at the peak,
// and high priority does not feel it.
func TestTenTimesOverload(t *testing.T) {
	overloaded(t, func(t *testing.T, net *pipes) {
		p, length, slo := plant{4, 16, 800 * time.Millisecond}, 10*time.Second, 2*time.Second
		if net == nil {
			p = plant{2, 8, 800 * time.Millisecond} // this process is clients and engines too
		}
		s := p.open(t, net, func(c *Config) { c.Limits.TTFT = slo })
		calm := s.offered(p.perSecond()/2, length/2, func(int) sample { return s.sample("") })
		began := time.Now()
		peak := rate(s.offered(1.05*p.perSecond(), length, func(int) sample { return s.sample("") }), slo, length, began)
		before := heap()
		began = time.Now()
		over := s.offered(10*p.perSecond(), length, func(i int) sample {
			if i%100 == 0 {
				return s.sample("high", headerPriority, "high")
			}
			return s.sample("normal")
		})
		after := heap()
		goodput := rate(over, slo, length, began)
		shed, high := filter(over, refused), filter(over, func(m sample) bool { return m.who == "high" })
		served := filter(over, good)
		t.Logf("capacity %.0f/s; goodput %.1f/s at that load, %.1f/s at ten times: %.2f of it", p.perSecond(), peak, goodput, goodput/peak)
		t.Logf("%d of %d refused %v: p50 %s, p99 %s, the last %s", len(shed), len(over), s.sheds(), quantile(shed, .5, total), quantile(shed, .99, total), quantile(shed, 1, total))
		t.Logf("p99 to the first token: %s at half the load; at ten times %s of %d with high priority, %s of the others", quantile(calm, .99, first),
			quantile(high, .99, first), len(high), quantile(filter(served, func(m sample) bool { return m.who == "normal" }), .99, first))
		t.Logf("heap %.1f MiB before, %.1f MiB after", before, after)

		for _, m := range over {
			if !good(m) && (!refused(m) || m.retryAfter == "") {
				t.Fatalf("neither served nor refused in form: %+v", m)
			}
		}
		if goodput < 0.9*peak {
			t.Errorf("goodput fell to %.2f of the peak", goodput/peak)
		}
		// A burst's first second may be misjudged: how fast the queue drains is not
		// known yet.
		if late := filter(shed, func(m sample) bool { return m.total > decisionTime(net) }); len(late) > len(shed)/100 {
			t.Errorf("%d of %d refusals were not made at once: %+v", len(late), len(shed), late[0])
		}
		if late := filter(served, func(m sample) bool { return m.first > slo }); len(late) > len(served)/10 {
			t.Errorf("%d of %d answers began after the objective", len(late), len(served))
		}
		if n := len(filter(high, good)); n != len(high) || n == 0 {
			t.Errorf("of %d requests of high priority %d were served", len(high), n)
		}
		if d := quantile(high, .99, first); d > slo/2 {
			t.Errorf("high priority waits %s for its first token", d)
		}
		s.booksClosed()
	})
}

// sheds are how many were refused, by reason.
func (s *setting) sheds() map[string]int {
	families, err := s.g.c.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	by := map[string]int{}
	for _, f := range families {
		if f.GetName() != "kvasir_gateway_shed_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					by[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return by
}

// heap is the live memory in MiB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// A greedy tenant that asks for five times what there is takes what others leave,
// not what they need.
func TestAGreedyTenantHarmsNobody(t *testing.T) {
	overloaded(t, func(t *testing.T, net *pipes) {
		p, length := plant{2, 16, time.Second}, 40*time.Second
		d, err := tenants.New([]tenants.Spec{tenantSpec("greedy", nil), tenantSpec("modest", func(s *tenants.Spec) { s.Priority = queue.Normal })})
		if err != nil {
			t.Fatal(err)
		}
		s := p.open(t, net, func(c *Config) { c.Tenants = d })
		modest := func() []sample {
			return s.offered(p.perSecond()/5, length, func(int) sample { return s.sample("modest", as("modest")...) })
		}
		alone := modest()
		var greedy []sample
		var wg sync.WaitGroup
		wg.Go(func() {
			greedy = s.offered(5*p.perSecond(), length, func(int) sample { return s.sample("greedy", append(as("greedy"), headerDeadline, "3000")...) })
		})
		beside := modest()
		wg.Wait()
		a, b := quantile(alone, .99, total), quantile(beside, .99, total)
		t.Logf("modest, %d requests: p50 %s and p99 %s alone; %s and %s beside a tenant with %d requests of which %d were served: p99 %+.0f %%", len(beside),
			quantile(alone, .5, total), a, quantile(beside, .5, total), b, len(greedy), len(filter(greedy, good)), 100*(float64(b)/float64(a)-1))
		t.Logf("%d greedy refused %v: p99 %s", len(filter(greedy, refused)), s.sheds(), quantile(filter(greedy, refused), .99, total))
		if n := len(filter(beside, good)); n != len(beside) {
			t.Errorf("%d of %d modest requests were served", n, len(beside))
		}
		if served := len(filter(greedy, good)); served == 0 || served == len(greedy) {
			t.Errorf("%d of %d greedy requests were served: no overload", served, len(greedy))
		}
		if b > a*12/10 {
			t.Errorf("p99 went from %s to %s", a, b)
		}
		s.booksClosed()
	})
}
