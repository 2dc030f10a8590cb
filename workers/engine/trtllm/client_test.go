package trtllm

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

func engine(t *testing.T, routes map[string]string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := routes[r.Method+" "+r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return &Client{vllm.Client{HTTP: s.Client(), URL: s.URL}}
}

const metrics = `# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{model_name="tiny"} 3
# TYPE trtllm_num_requests_waiting gauge
trtllm_num_requests_waiting{model_name="tiny"} 2
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{model_name="tiny"} 0.5
# TYPE trtllm_kv_cache_tokens_per_block gauge
trtllm_kv_cache_tokens_per_block{model_name="tiny"} 64
`

func TestDescribe(t *testing.T) {
	routes := map[string]string{"GET /v1/models": `{"data":[{"id":"tiny"}]}`, "GET /health": "", "GET /prometheus/metrics": metrics}
	c := engine(t, routes)
	if d, err := c.Describe(t.Context()); err != nil || d.Model != "tiny" || d.BlockSize != 64 {
		t.Errorf("%+v, %v", d, err)
	}
	if l, err := c.Load(t.Context()); err != nil || l != (vllm.Load{Running: 3, Waiting: 2, KVUsage: 0.5, QueuedPrefillTokens: -1, BlockSize: 64}) {
		t.Errorf("%+v, %v", l, err)
	}
	delete(routes, "GET /prometheus/metrics") // without return_perf_metrics
	if d, err := c.Describe(t.Context()); err != nil || d.BlockSize != defaultBlock {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := engine(t, nil).Describe(t.Context()); err == nil {
		t.Error("no model was accepted")
	}
}

func TestPollEvents(t *testing.T) {
	c := engine(t, map[string]string{"POST /kv_cache_events": `[]`})
	if body, err := c.PollEvents(t.Context()); err != nil || string(body) != "[]" {
		t.Errorf("%s, %v", body, err)
	}
	if _, err := engine(t, nil).PollEvents(t.Context()); err == nil {
		t.Error("no error without the route")
	}
}

func FuzzParseLoad(f *testing.F) {
	f.Add([]byte(metrics))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLoad(text)
		if err == nil && (l.Running < 0 || l.KVUsage > 1) {
			t.Fatalf("%+v", l)
		}
	})
}
