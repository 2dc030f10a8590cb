package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/kvasir-ai/kvasir/workers"
)

// rooms are engines that meet in a bootstrap room, as SGLang's do: each leg waits
// there for the other, for ever if need be. Only the other leg's arrival, or its
// client's leaving, ends that.
type rooms struct {
	t    *testing.T
	mu   sync.Mutex
	open map[string]chan struct{} // by room: closed when both are there
	seen map[string]int
	bad  string // the leg that fails: prefill or decode
	left int    // legs whose client went away while they waited
}

// meet waits for the other leg.
func (m *rooms) meet(ctx context.Context, room string) bool {
	m.mu.Lock()
	if m.open[room] == nil {
		m.open[room] = make(chan struct{})
	}
	both := m.open[room]
	if m.seen[room]++; m.seen[room] == 2 {
		close(both)
	}
	m.mu.Unlock()
	select {
	case <-both:
		return true
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		m.left++
		return false
	}
}

func (m *rooms) act(e *standIn) func(w http.ResponseWriter, r *http.Request, body []byte) bool {
	return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		var q struct {
			Stream bool        `json:"stream"`
			Host   string      `json:"bootstrap_host"`
			Port   int         `json:"bootstrap_port"`
			Room   json.Number `json:"bootstrap_room"`
			// Mooncake's
			Params struct {
				RemoteDecode, RemotePrefill bool
				ID                          string `json:"transfer_id"`
				Engine                      string `json:"remote_engine_id"`
				Bootstrap                   string `json:"remote_bootstrap_addr"`
			} `json:"kv_transfer_params"`
		}
		if err := json.Unmarshal(body, &q); err != nil {
			m.t.Errorf("%v: %s", err, body)
		}
		room, prefill := string(q.Room)+q.Params.ID, e.name[0] == 'p'
		switch {
		case room == "":
			return false // whole
		case q.Params.ID == "" && (q.Host != "10.0.0.9" || q.Port != 8997):
			m.t.Errorf("the room is at %s:%d", q.Host, q.Port)
		case q.Params.ID != "" && !prefill && (q.Params.Engine != "engine-7" || !strings.HasPrefix(q.Params.Bootstrap, "http://127.0.0.1:")):
			m.t.Errorf("the KV is at %+v", q.Params)
		}
		if m.bad == "prefill" && prefill || m.bad == "decode" && !prefill {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"object":"error","message":"KVTransferError","type":"InternalServerError","code":500}`)
			return true
		}
		if !m.meet(r.Context(), room) {
			return true
		}
		if prefill {
			if q.Stream {
				m.t.Errorf("the first leg is a stream: %s", body)
			}
			io.WriteString(w, `{"id":"x","choices":[{"index":0,"finish_reason":{"type":"length","length":0}}],"usage":{"prompt_tokens":20,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":12}}}`)
			return true
		}
		return false
	}
}

func newRooms(t *testing.T, like workers.Info) (*setting, *rooms) {
	m := &rooms{t: t, open: map[string]chan struct{}{}, seen: map[string]int{}}
	s := newRoles(t, 1, 1, like, nil)
	for _, e := range s.engines {
		e.does(m.act(e))
	}
	return s, m
}

var sglangRooms = workers.Info{Engine: "sglang", Bootstrap: "10.0.0.9:8997", Connector: ""}

// Both legs go out together, because each waits for the other.
func TestLegsThatMeet(t *testing.T) {
	query := http.NewServeMux()
	query.HandleFunc("GET /query", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"0":{"engine_id":"engine-7","worker_addr":{"0":{"0":"tcp://10.0.0.9:1"}}}}`)
	})
	server := httptest.NewServer(query)
	defer server.Close()
	for name, like := range map[string]workers.Info{"SGLang": sglangRooms, "Mooncake": {Engine: "vllm", Connector: "mooncake", Bootstrap: server.Listener.Addr().String()}} {
		t.Run(name, func(t *testing.T) {
			s, _ := newRooms(t, like)
			for _, body := range []string{chatBody, strings.Replace(streamBody, "{", `{"stream_options":{"include_usage":true},`, 1)} {
				r := s.post("/v1/chat/completions", body)
				rec := s.record(r.header.Get("X-Request-Id"))
				if r.status != 200 || !strings.Contains(string(r.body), "d0 ") || !strings.Contains(string(r.body), `"cached_tokens":12`) {
					t.Errorf("%d %s", r.status, r.body)
				}
				if rec.Prefill != "p0" || rec.Chosen != "d0" || len(rec.Legs) != 2 || len(rec.Failed) != 0 {
					t.Errorf("%+v", rec)
				}
			}
			s.booksClosed()
		})
	}
}

// A leg whose twin has failed does not wait for it: it is ended, and the request
// served by one worker.
func TestALegWhoseTwinFailsIsEnded(t *testing.T) {
	for _, bad := range []string{"prefill", "decode"} {
		for _, body := range []string{chatBody, streamBody} {
			s, m := newRooms(t, sglangRooms)
			m.bad = bad
			r := s.post("/v1/chat/completions", body)
			rec := s.record(r.header.Get("X-Request-Id"))
			if r.status != 200 || rec.Outcome != outcomeOK || rec.Prefill != "" || len(rec.Failed) != 1 {
				t.Errorf("%s fails: %d %s\n%+v", bad, r.status, r.body, rec)
			}
			eventually(t, "nobody waits for a twin", func() bool { return s.engines[0].active.Load()+s.engines[1].active.Load() == 0 })
			s.booksClosed()
		}
	}
}

// A client that leaves while its legs wait for each other ends both.
func TestAClientThatLeavesItsRoom(t *testing.T) {
	s, m := newRooms(t, sglangRooms)
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			<-r.Context().Done()
			m.mu.Lock()
			defer m.mu.Unlock()
			m.left++
			return true
		})
	}
	ctx, leave := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
	go func() {
		eventually(t, "both legs are under way", func() bool { return s.engines[0].active.Load() == 1 && s.engines[1].active.Load() == 1 })
		leave()
	}()
	if _, err := s.client.Do(req); err == nil {
		t.Error("it was answered")
	}
	eventually(t, "both were told", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.left == 2
	})
	eventually(t, "the request has ended", func() bool { return s.g.admission.count() == 0 })
	s.booksClosed()
}

// Legs of TensorRT-LLM, on a stand-in made after its documentation: the context
// server's state and tokens go to the generation server.
func TestTensorRTLegs(t *testing.T) {
	s := newRoles(t, 1, 1, workers.Info{Engine: "trtllm"}, nil)
	var ids []string
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			var q struct {
				Params struct {
					Type  string      `json:"request_type"`
					ID    json.Number `json:"disagg_request_id"`
					State string      `json:"encoded_opaque_state"`
				} `json:"disaggregated_params"`
				Tokens []int `json:"prompt_token_ids"`
			}
			if err := json.Unmarshal(body, &q); err != nil {
				t.Errorf("%v: %s", err, body)
			}
			ids = append(ids, string(q.Params.ID))
			if e.name == "p0" {
				if q.Params.Type != "context_only" || q.Params.ID == "" {
					t.Errorf("the first leg is %s", body)
				}
				fmt.Fprintf(w, `{"choices":[{"index":0,"finish_reason":"length","disaggregated_params":{"request_type":"context_only","ctx_request_id":3,"disagg_request_id":%s,"encoded_opaque_state":"c3RhdGU="}}],"prompt_token_ids":[1,2,3]}`, q.Params.ID)
				return true
			}
			if q.Params.Type != "generation_only" || q.Params.State != "c3RhdGU=" || len(q.Tokens) != 3 {
				t.Errorf("the second leg is %s", body)
			}
			return false
		})
	}
	r := s.post("/v1/chat/completions", chatBody)
	if r.status != 200 || !strings.Contains(string(r.body), "d0 ") || len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("%d %s, ids %v", r.status, r.body, ids)
	}
	s.booksClosed()
}
