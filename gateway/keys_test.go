package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/workers"
)

// An engine's key reaches the engine, and nobody else: the client's own stays
// with the gateway.
func TestAnEnginesKeyGoesToTheEngineAlone(t *testing.T) {
	const key = "sekret"
	e := newStandIn(t, "w0")
	s := &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}, engines: []*standIn{e}}
	s.start([]workers.Info{{ID: "w0", URL: e.URL, Model: "m", BlockSize: blockSize, APIKey: key}}, nil)
	ask := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer theirs")
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", path, resp.StatusCode, b, err)
		}
		return string(b)
	}
	seen := ask("POST", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
	if got := e.received()[0].header.Get("Authorization"); got != "Bearer "+key {
		t.Errorf("the engine got %q", got)
	}
	seen += ask("GET", "/kvasir/v1/workers", "") + ask("GET", "/kvasir/v1/decisions", "") + ask("GET", "/metrics", "") + s.logs.String()
	if strings.Contains(seen, key) {
		t.Error("the key is in an answer or in the log")
	}
}
