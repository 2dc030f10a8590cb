package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// secret stands for what a client says to a model.
const secret = "grandmother's recipe"

const secretBody = `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"` + secret + `"}]}`

func TestOneTraceShowsTheWholeRequest(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	s := newSetting(t, 1, func(c *Config) {
		c.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	})
	r := s.post("/v1/chat/completions", secretBody, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	s.record(r.header.Get("X-Request-Id"))
	eventually(t, "the request's span ended", func() bool { return len(spans.Ended()) == 4 })
	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
		if span.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is in another trace than the client's", span.Name())
		}
		if slices.ContainsFunc(span.Attributes(), func(a attribute.KeyValue) bool { return strings.Contains(a.Value.String(), secret) }) {
			t.Errorf("%s holds prompt text", span.Name())
		}
	}
	slices.Sort(names)
	if want := []string{"kvasir.decide", "kvasir.request", "kvasir.tokenize", "kvasir.upstream"}; !slices.Equal(names, want) {
		t.Errorf("spans %v", names)
	}
	if tp := s.engines[0].received()[0].header.Get("Traceparent"); !strings.HasPrefix(tp, "00-0af7651916cd43dd8448eb211c80319c-") || strings.Contains(tp, "b7ad6b7169203331") {
		t.Errorf("the engine was told %q", tp)
	}
}

func TestTheClientsTraceReachesTheEngineWithoutATracer(t *testing.T) {
	s := newSetting(t, 1, nil)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s.post("/v1/chat/completions", chatBody, "traceparent", parent)
	if got := s.engines[0].received()[0].header.Get("Traceparent"); got != parent {
		t.Errorf("the engine was told %q", got)
	}
}

func TestNoPromptTextIsKept(t *testing.T) {
	s := newSetting(t, 1, nil)
	ok := s.post("/v1/chat/completions", secretBody)
	for _, status := range []int{400, 500} {
		s.engines[0].does(func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
			s.engines[0].refuse(w, status, "I dislike "+string(body))
			return true
		})
		s.post("/v1/chat/completions", secretBody)
	}
	s.post("/v1/chat/completions", strings.Replace(secretBody, `"user"`, `7`, 1))
	s.record(ok.header.Get("X-Request-Id"))
	eventually(t, "four access lines", func() bool { return strings.Count(s.logs.String(), "msg=request") == 4 })
	for where, text := range map[string]string{
		"the log": s.logs.String(), "the metrics": string(s.get("/metrics").body), "the decisions": string(s.get("/kvasir/v1/decisions").body),
	} {
		if strings.Contains(text, secret) || strings.Contains(text, "recipe") {
			t.Errorf("%s hold prompt text", where)
		}
	}
	if !strings.Contains(s.logs.String(), "request_id="+ok.header.Get("X-Request-Id")) {
		t.Error("the log lacks the request's id")
	}
}

func TestMetricsAreSoundAndCount(t *testing.T) {
	s := newSetting(t, 1, nil)
	s.record(s.post("/v1/chat/completions", secretBody).header.Get("X-Request-Id"))
	s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
	s.post("/v1/chat/completions", `{"model":"made up","messages":[{"role":"user","content":"x"}]}`)
	eventually(t, "all three counted", func() bool { return strings.Contains(string(s.get("/metrics").body), "model_not_found") })
	families, err := s.g.c.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	got := string(s.get("/metrics").body)
	for _, want := range []string{
		`kvasir_gateway_requests_total{endpoint="chat",model="m",outcome="ok"} 2`,
		`kvasir_gateway_requests_total{endpoint="chat",model="",outcome="model_not_found"} 1`,
		`kvasir_gateway_tokens_total{kind="completion",model="m"} 6`,
		`kvasir_gateway_engine_cached_tokens_total{model="m"} 8`,
		`kvasir_gateway_time_to_first_token_seconds_count{model="m"} 1`,
		`kvasir_gateway_time_per_output_token_seconds_count{model="m"} 1`,
		// The stand-in always counts 20 tokens.
		`kvasir_gateway_token_mismatches_total{model="m"} 2`,
		`kvasir_gateway_in_flight 0`,
		`kvasir_router_ledger_added_total 2`,
		`kvasir_router_ledger_released_total 2`,
		`kvasir_router_ttft_observed_over_predicted_count{model="m"} 1`,
		`kvasir_router_predictions_total{worker="w0"} 1`,
		`kvasir_index_workers 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestAdminSurface(t *testing.T) {
	s := newSetting(t, 2, nil)
	s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
	var ws struct {
		Workers []struct {
			ID    string
			State string
			Ready bool
			Rates map[string]any
		}
	}
	if err := json.Unmarshal(s.get("/kvasir/v1/workers").body, &ws); err != nil || len(ws.Workers) != 2 || ws.Workers[1].ID != "w1" || !ws.Workers[1].Ready || ws.Workers[1].Rates == nil {
		t.Errorf("workers %+v, %v", ws, err)
	}
	var ds struct{ Decisions []Record }
	if err := json.Unmarshal(s.get("/kvasir/v1/decisions?limit=1").body, &ds); err != nil || len(ds.Decisions) != 1 || len(ds.Decisions[0].Candidates) != 2 {
		t.Errorf("decisions %+v, %v", ds, err)
	}
	for path, want := range map[string]string{
		"/kvasir/v1/index": `"tiers":{"gpu":0`, "/kvasir/v1/tiers": `"worker":"w0"`, "/ready": "ready", "/v1/models": `"max_model_len":4096`, "/v1/models/m": `"id":"m"`,
	} {
		if r := s.get(path); r.status != 200 || !strings.Contains(string(r.body), want) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := s.get("/debug/pprof/cmdline"); r.status != 404 {
		t.Errorf("clients reach the profiler: %d", r.status)
	}
}

// TestAdminElsewhere: with a listener of its own, the admin surface is there
// only.
func TestAdminElsewhere(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Admin = true })
	if r := s.get("/metrics"); r.status != 404 {
		t.Errorf("/metrics on the main listener: %d", r.status)
	}
	s.server.Config.Handler = s.g.AdminHandler()
	for _, path := range []string{"/metrics", "/kvasir/v1/workers", "/health", "/debug/pprof/", "/debug/pprof/cmdline"} {
		if r := s.get(path); r.status != 200 {
			t.Errorf("%s on the admin listener: %d", path, r.status)
		}
	}
}
