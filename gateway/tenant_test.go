package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/gateway/tenants"
)

func tenantSpec(name string, change func(*tenants.Spec)) tenants.Spec {
	s := tenants.Spec{Name: name, Keys: [][32]byte{sha256.Sum256([]byte("sk-" + name))}}
	if change != nil {
		change(&s)
	}
	return s
}

// guarded is a setting with tenants: a and b, c who may use no model that is
// served, d who may send one request a minute, and an admin.
func guarded(t *testing.T) *setting {
	d, err := tenants.New([]tenants.Spec{
		tenantSpec("a", nil), tenantSpec("b", nil),
		tenantSpec("c", func(s *tenants.Spec) { s.Models = []string{"other"} }),
		tenantSpec("d", func(s *tenants.Spec) { s.Limits.RequestsPerMinute = 1 }),
		tenantSpec("admin", func(s *tenants.Spec) { s.Admin = true }),
	})
	if err != nil {
		t.Fatal(err)
	}
	return newSetting(t, 2, func(c *Config) { c.Tenants = d })
}

func as(name string) []string { return []string{"Authorization", "Bearer sk-" + name} }

func TestStrangersStayOutside(t *testing.T) {
	s := guarded(t)
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		code         Code
	}{
		{"POST", "/v1/chat/completions", nil, 401, CodeInvalidKey},
		{"POST", "/v1/chat/completions", []string{"Authorization", "Bearer sk-nobody"}, 401, CodeInvalidKey},
		{"POST", "/v1/chat/completions", []string{"Authorization", "Basic sk-a"}, 401, CodeInvalidKey},
		{"POST", "/v1/chat/completions", []string{"Authorization", "sk-a"}, 401, CodeInvalidKey},
		{"POST", "/v1/chat/completions/", nil, 404, CodeUnknownURL},
		{"POST", "//v1/chat/completions", nil, 404, CodeUnknownURL},
		{"POST", "/v1/../v1/chat/completions", nil, 404, CodeUnknownURL},
		{"POST", "/v1%2fchat/completions", nil, 401, CodeInvalidKey},
		{"GET", "/v1/models", nil, 401, CodeInvalidKey},
		{"GET", "/v1/models/m", nil, 401, CodeInvalidKey},
		{"POST", "/tokenize", nil, 401, CodeInvalidKey},
		{"POST", "/v1/embeddings", nil, 401, CodeInvalidKey},
		{"GET", "/metrics", nil, 401, CodeInvalidKey},
		{"GET", "/kvasir/v1/decisions", as("a"), 403, CodeForbidden},
		{"POST", "/kvasir/v1/explain", as("a"), 403, CodeForbidden},
		{"GET", "/kvasir/v1/workers", as("admin"), 200, ""},
		{"GET", "/health", nil, 200, ""},
		{"GET", "/ready", nil, 200, ""},
		{"POST", "/v1/chat/completions", as("a"), 200, ""},
	} {
		req, err := http.NewRequest(c.method, s.server.URL, strings.NewReader(chatBody))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "//" + req.URL.Host + c.path // as it is
		for i := 0; i+1 < len(c.header); i += 2 {
			req.Header.Set(c.header[i], c.header[i+1])
		}
		r := s.do(req)
		if r.status != c.status {
			t.Errorf("%s %s with %q: %d %s", c.method, c.path, c.header, r.status, r.body)
			continue
		}
		if c.code == "" {
			continue
		}
		if code, _, message := r.problem(t); code != string(c.code) || strings.Contains(message, "sk-") {
			t.Errorf("%s %s: %s %s", c.method, c.path, code, message)
		}
		if challenge := r.header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
			t.Errorf("%s %s: WWW-Authenticate %q", c.method, c.path, challenge)
		}
	}
	if m := string(s.post("/v1/chat/completions", chatBody).body); !strings.Contains(m, "API key") {
		t.Errorf("%s", m)
	}
	metrics := s.do(request(t, s, "/metrics", as("admin")))
	if !strings.Contains(string(metrics.body), `kvasir_gateway_strangers_total{code="invalid_api_key"}`) {
		t.Error("strangers are not counted")
	}
}

func request(t *testing.T, s *setting, path string, header []string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(header[0], header[1])
	return req
}

// A tenant sees only the models that it may use, and is not told of others.
func TestModelsOfATenant(t *testing.T) {
	s := guarded(t)
	r := s.post("/v1/chat/completions", chatBody, as("c")...)
	if code, _, message := r.problem(t); code != string(CodeModelNotFound) || !strings.Contains(message, "none yet") {
		t.Errorf("%s %s", code, message)
	}
	for name, want := range map[string]string{"a": `"m"`, "c": `[]`} {
		if b := string(s.do(request(t, s, "/v1/models", as(name))).body); !strings.Contains(b, want) {
			t.Errorf("%s sees %s", name, b)
		}
	}
}

// Law 7: whatever a client writes, the engine is told its tenant's salt and
// nothing else, and the same prompt has other blocks for another tenant.
func TestTheEngineGetsTheTenantsSalt(t *testing.T) {
	s := guarded(t)
	forms := []string{``, `"cache_salt":null,`, `"cache_salt":"x",`, `"cache_\u0073alt":"x",`, `"cache_\u0073alt":null,`}
	salts := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		for _, form := range forms {
			for _, stream := range []string{"true", "false"} {
				s.post("/v1/chat/completions", `{`+form+`"model":"m","stream":`+stream+`,"messages":[{"role":"user","content":"hi \"cache_salt\":\"y\" é"}],"max_tokens":1}`, as(name)...)
			}
		}
	}
	n := 0
	for _, e := range s.engines {
		for _, got := range e.received() {
			n++
			var body struct {
				CacheSalt string `json:"cache_salt"`
				Messages  []struct{ Content string }
			}
			if err := json.Unmarshal(got.body, &body); err != nil || len(body.CacheSalt) != 32 || body.Messages[0].Content != `hi "cache_salt":"y" é` {
				t.Errorf("%v: %s", err, got.body)
			}
			given := 0
			_ = eachField(got.body, func(key, _ []byte) error {
				if string(key) == "cache_salt" {
					given++
				}
				return nil
			})
			if given != 1 {
				t.Errorf("%d salts in %s", given, got.body)
			}
			if got.header.Get("Authorization") != "" {
				t.Error("the client's key reached the engine")
			}
			salts[body.CacheSalt] = true
		}
	}
	// Two tenants, each with its plain salt and that for "x".
	if n != 20 || len(salts) != 4 {
		t.Errorf("%d requests with %d salts", n, len(salts))
	}
	if r := s.post("/v1/chat/completions", `{"model":"m","kv_transfer_params":{"remote_host":"10.0.0.1"},"messages":[{"role":"user","content":"x"}]}`, as("a")...); r.status != 400 {
		t.Errorf("transfer parameters of a client: %d", r.status)
	}
}

func TestATenantsLimits(t *testing.T) {
	s := guarded(t)
	if r := s.post("/v1/chat/completions", chatBody, as("d")...); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	r := s.post("/v1/chat/completions", chatBody, as("d")...)
	code, _, _ := r.problem(t)
	if r.status != 429 || code != string(CodeOverLimit) || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %s, Retry-After %q", r.status, code, r.header.Get("Retry-After"))
	}
	eventually(t, "a record of the refusal", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.records, func(r Record) bool { return r.Tenant == "d" && r.Outcome == string(CodeOverLimit) })
	})
}

// A carried stream keeps its tenant's salt.
func TestACarriedStreamKeepsItsSalt(t *testing.T) {
	s := guarded(t)
	for _, e := range s.engines {
		e.Config.ErrorLog = quiet
		e.does(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if strings.HasSuffix(r.URL.Path, "/v1/completions") {
				return false
			}
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write(events(roleChunk, contentChunk))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	s.post("/v1/chat/completions", `{"model":"m","stream":true,"max_tokens":9,"cache_salt":"x","messages":[{"role":"user","content":"x"}]}`, as("a")...)
	var bodies []string
	for _, e := range s.engines {
		for _, got := range e.received() {
			bodies = append(bodies, string(got.body))
		}
	}
	slices.Sort(bodies) // that of the continuing request comes second: c before p
	salt := fmt.Sprintf(`"cache_salt":%q`, s.g.c.Tenants.Authenticate("sk-a").Salt("x"))
	if len(bodies) != 2 || strings.Count(bodies[0], salt) != 1 || strings.Count(bodies[1], salt) != 1 || strings.Contains(bodies[1], `"x"`) == strings.Contains(bodies[0], `"x"`) {
		t.Errorf("%q", bodies)
	}
}
