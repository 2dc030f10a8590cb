package sglang

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// serverInfo has the fields of a real SGLang 0.5.23's answer that are read, and
// one that is not.
const serverInfo = `{"served_model_name":"tiny","model_path":"/models/tiny","page_size":16,"context_length":4096,"max_total_num_tokens":32000,"tp_size":1,
"kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":29700,"topic":"kv@sg","block_size":16,"dp_size":1,"replay_endpoint_port_base":29710}}`

func engine(t *testing.T, routes map[string]string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := routes[r.URL.RequestURI()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return &Client{vllm.Client{HTTP: s.Client(), URL: s.URL}}
}

func TestDescribe(t *testing.T) {
	for _, path := range []string{"/server_info", "/get_server_info"} {
		c := engine(t, map[string]string{path: serverInfo, "/health": ""})
		d, err := c.Describe(t.Context())
		if err != nil || d.Model != "tiny" || d.Root != "/models/tiny" || d.BlockSize != 16 || d.GPUBlocks != 2000 || d.MaxContext != 4096 {
			t.Errorf("%s: %+v, %v", path, d, err)
		}
		if err := c.Health(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for what, routes := range map[string]map[string]string{
		"no route": nil, "no model": {"/server_info": "{}"}, "nonsense": {"/server_info": "<html>"},
	} {
		if _, err := engine(t, routes).Describe(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestEvents(t *testing.T) {
	c := engine(t, map[string]string{"/server_info": serverInfo})
	want := vllm.Events{Endpoint: "tcp://127.0.0.1:29700", Replay: "tcp://127.0.0.1:29710", Topic: "kv@sg"}
	if got, err := c.Events(t.Context()); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	c.Rank, c.Ranks = 2, 4
	want.Endpoint, want.Replay = "tcp://127.0.0.1:29702", "tcp://127.0.0.1:29712"
	if got, err := c.Events(t.Context()); got != want || err != nil {
		t.Errorf("rank 2: %+v, %v", got, err)
	}
	c = engine(t, map[string]string{"/server_info": `{"served_model_name":"tiny","kv_events":null}`})
	if _, err := c.Events(t.Context()); !errors.Is(err, vllm.ErrNoEvents) {
		t.Errorf("without events: %v", err)
	}
}

func TestLoad(t *testing.T) {
	c := engine(t, map[string]string{"/v1/loads?include=core": `{"version":"0.5.23","loads":[
		{"dp_rank":0,"num_running_reqs":3,"num_waiting_reqs":1,"token_usage":0.5,"num_waiting_uncached_tokens":700},
		{"dp_rank":1,"num_running_reqs":1,"num_waiting_reqs":0,"token_usage":0.25,"num_waiting_uncached_tokens":0}]}`})
	want := vllm.Load{Running: 4, Waiting: 1, KVUsage: 0.375, QueuedPrefillTokens: 700}
	if got, err := c.Load(t.Context()); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	c.Rank, c.Ranks = 1, 2
	want = vllm.Load{Running: 1, KVUsage: 0.25}
	if got, err := c.Load(t.Context()); got != want || err != nil {
		t.Errorf("rank 1: %+v, %v", got, err)
	}
	if _, err := engine(t, nil).Load(t.Context()); err == nil {
		t.Error("no error without the route")
	}
}

func FuzzParseLoad(f *testing.F) {
	f.Add([]byte(`{"loads":[{"num_running_reqs":3,"token_usage":0.5}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := (&Client{}).parseLoad(body)
		if err == nil && (l.Running < 0 || l.KVUsage > 1) {
			t.Fatalf("%+v", l)
		}
	})
}
