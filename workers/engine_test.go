package workers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvasir-ai/kvasir/workers"
)

// An engine that nobody named says what it is by whom its models are owned by.
func TestEnginesAreRecognized(t *testing.T) {
	models := func(owner string) string { return `{"data":[{"id":"m","owned_by":"` + owner + `","root":"/r"}]}` }
	metrics := "vllm:cache_config_info{block_size=\"32\",num_gpu_blocks=\"7\"} 1\n"
	for _, c := range []struct {
		owner, want string
		blockSize   int
		polls       bool
	}{
		{"vllm", "vllm", 32, false},
		{"sglang", "sglang", 16, false},
		{"tensorrt_llm", "trtllm", 32, true},
		{"kvasir", "embedded", 32, false},
		{"somebody else", "", 32, false},
	} {
		owner := c.owner
		routes := map[string]string{
			"/v1/models": models(owner), "/metrics": metrics, "/prometheus/metrics": "",
			"/server_info": `{"served_model_name":"m","model_path":"/r","page_size":16}`,
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, ok := routes[r.URL.Path]; ok {
				_, _ = w.Write([]byte(body))
				return
			}
			http.NotFound(w, r)
		}))
		e := workers.NewEngine(s.Client(), workers.Info{ID: "w", URL: s.URL})
		if workers.PollsEvents(e) != nil {
			t.Error("polled before anybody knows what it is")
		}
		d, err := e.Describe(t.Context())
		if err != nil || d.Engine != c.want || d.Model != "m" || d.BlockSize != c.blockSize {
			t.Errorf("owned by %s: %+v, %v", owner, d, err)
		}
		if polls := workers.PollsEvents(e) != nil; polls != c.polls {
			t.Errorf("owned by %s: events are polled: %v", owner, polls)
		}
		// Another engine comes up at the address.
		routes["/v1/models"] = models("sglang")
		if d, err := e.Describe(t.Context()); err != nil || d.Engine != "sglang" || d.BlockSize != 16 {
			t.Errorf("owned by sglang now: %+v, %v", d, err)
		}
		s.Close()
	}
}
