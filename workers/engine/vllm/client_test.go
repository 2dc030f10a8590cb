package vllm

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// metrics as vLLM 0.32 prints them, shortened.
const metrics = `# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 1203.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.25
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 1.5e+06
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 900.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",engine="0",num_cpu_blocks="None",num_gpu_blocks="40"} 1.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="tiny"} 0.0
`

func TestParseLoad(t *testing.T) {
	l, err := ParseLoad([]byte(metrics))
	if err != nil {
		t.Fatal(err)
	}
	want := Load{Running: 4, Waiting: 2, KVUsage: 0.375, QueuedPrefillTokens: -1, CacheQueries: 1_500_000, CacheHits: 900, BlockSize: 32, GPUBlocks: 40}
	if l != want {
		t.Errorf("got  %+v\nwant %+v", l, want)
	}
	l, err = ParseLoad([]byte(metrics + "# TYPE kvasir:queued_prefill_tokens gauge\nkvasir:queued_prefill_tokens 17\n"))
	if err != nil || l.QueuedPrefillTokens != 17 {
		t.Errorf("the embedded engine's queue: %+v, %v", l, err)
	}
	l, err = ParseLoad(nil)
	if err != nil || l != (Load{KVUsage: -1, QueuedPrefillTokens: -1}) {
		t.Errorf("no metrics: %+v, %v", l, err)
	}
}

func TestLabelsHoldWhatever(t *testing.T) {
	l, err := ParseLoad([]byte(`vllm:num_requests_running{model_name="a\"} 7,engine=\"9",engine="0",} 3 1700000000` + "\n" +
		`vllm:cache_config_info { block_size="16" , num_gpu_blocks="5" } 1` + "\n"))
	if err != nil || l.Running != 3 || l.BlockSize != 16 || l.GPUBlocks != 5 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"vllm:num_requests_running{engine=\"0\" 3\n", "vllm:num_requests_running many\n", "vllm:num_requests_running \n"} {
		if l, err := ParseLoad([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, l)
		}
	}
}

func BenchmarkParseLoad(b *testing.B) {
	text := []byte(metrics + strings.Repeat(`vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="tiny"} 0.0`+"\n", 500))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseLoad(text); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseLoad(f *testing.F) {
	f.Add([]byte(metrics))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLoad(text)
		if err == nil && (l.Running < 0 || l.KVUsage > 1) {
			t.Fatalf("%+v", l)
		}
	})
}

func engine(t *testing.T, routes map[string]string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := routes[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return &Client{HTTP: s.Client(), URL: s.URL}
}

func TestDescribe(t *testing.T) {
	c := engine(t, map[string]string{
		"/health":    "",
		"/v1/models": `{"object":"list","data":[{"id":"tiny","max_model_len":1024},{"id":"ad"}]}`,
		"/metrics":   metrics,
	})
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	d, err := c.Describe(t.Context())
	if err != nil || d.Model != "tiny" || len(d.Models) != 2 || d.MaxContext != 1024 || d.BlockSize != 32 || d.GPUBlocks != 40 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestEvents(t *testing.T) {
	f := func(body string, want Events, wantErr error) {
		t.Helper()
		c := engine(t, map[string]string{"/kv_event_sources": body})
		got, err := c.Events(t.Context())
		if got != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	f(`{"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:29467","replay_endpoint":"tcp://127.0.0.1:42173","topic":"kv@c"}}`,
		Events{"tcp://127.0.0.1:29467", "tcp://127.0.0.1:42173", "kv@c"}, nil)
	f(`{"0":{"enable_kv_cache_events":true,"endpoint":"tcp://*:29467","replay_endpoint":null,"topic":""}}`,
		Events{Endpoint: "tcp://127.0.0.1:29467"}, nil)
	f(`{}`, Events{}, ErrNoEvents)
	c := engine(t, nil) // an old vLLM has no such route
	if _, err := c.Events(t.Context()); !errors.Is(err, ErrNoEvents) {
		t.Errorf("no route: %v", err)
	}
}

func TestAnEngineThatAnswersNonsense(t *testing.T) {
	c := engine(t, map[string]string{"/v1/models": `{"data":[]}`, "/metrics": strings.Repeat("x", maxBody+1), "/kv_event_sources": "<html>"})
	if _, err := c.Describe(t.Context()); err == nil {
		t.Error("no model was accepted")
	}
	if _, err := c.Load(t.Context()); err == nil {
		t.Error("an endless answer was accepted")
	}
	if _, err := c.Events(t.Context()); err == nil || errors.Is(err, ErrNoEvents) {
		t.Errorf("HTML for event sources: %v", err)
	}
	if err := c.Health(t.Context()); err == nil {
		t.Error("404 is healthy")
	}
}

// A client of one data-parallel rank sees that rank's figures and sockets.
func TestOneRank(t *testing.T) {
	c := engine(t, map[string]string{
		"/metrics": `vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 4
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.8
`,
		"/kv_event_sources": `{"0":{"enable_kv_cache_events":true,"endpoint":"tcp://10.0.0.1:5557"},"1":{"enable_kv_cache_events":true,"endpoint":"tcp://10.0.0.1:5558"}}`,
	})
	c.Rank, c.Ranks = 1, 2
	l, err := c.Load(t.Context())
	if err != nil || l.Running != 4 || l.KVUsage != 0.8 {
		t.Errorf("%+v, %v", l, err)
	}
	e, err := c.Events(t.Context())
	if err != nil || e.Endpoint != "tcp://10.0.0.1:5558" {
		t.Errorf("%+v, %v", e, err)
	}
	c.Rank, c.Ranks = 0, 0
	if l, err = c.Load(t.Context()); err != nil || l.Running != 5 || l.KVUsage != 0.5 {
		t.Errorf("all ranks: %+v, %v", l, err)
	}
}

func TestCountRanks(t *testing.T) {
	f := func(metrics string, want int) {
		t.Helper()
		c := engine(t, map[string]string{"/metrics": metrics})
		if n, err := c.CountRanks(t.Context()); n != want || err != nil && want != 0 {
			t.Errorf("%q: %d, %v; want %d", metrics, n, err, want)
		}
	}
	f(metrics, 1)
	f("", 1)
	f(`vllm:cache_config_info{block_size="32",engine="0"} 1.0`+"\n"+`vllm:cache_config_info{block_size="32",engine="1"} 1.0`+"\n", 2)
	f(`vllm:cache_config_info{engine="99999999"} 1.0`+"\n", 0)
	if n, err := engine(t, nil).CountRanks(t.Context()); n != 1 || err != nil {
		t.Errorf("no metrics: %d, %v", n, err)
	}
}
