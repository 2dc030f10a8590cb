package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whatever a stranger sends, it is refused with a typed error, counted, and the
// gateway goes on. Forged registrations and control calls: trust_test.go.
func TestStrangersAreRefused(t *testing.T) {
	keys := writeFile(t, "keys.yaml", `tenants: [{name: ada, keys: ["env:ADA_KEY"]}, {name: ops, keys: ["env:OPS_KEY"], admin: true}]`)
	g := startUp(t, []string{"KVASIR_AUTH_KEYS_FILE=" + keys, "ADA_KEY=sk-ada", "OPS_KEY=sk-ops", "KVASIR_LIMITS_BODY=64KiB", "KVASIR_LIMITS_BODY_TIME=1s"}, "--workers", "1", "--model", smollm2(t))
	const chat = "/v1/chat/completions"
	good := `{"model":"` + smolName + `","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`
	with := func(member string) string { return strings.Replace(good, "{", "{"+member+",", 1) }
	for _, c := range []struct {
		what, method, path, key, body string
		header                        string
		status                        int
		code                          string
	}{
		{what: "no key", path: chat, body: good, status: 401, code: "invalid_api_key"},
		{what: "a wrong key", path: chat, key: "sk-nobody", body: good, status: 401, code: "invalid_api_key"},
		{what: "the key of another scheme", path: chat, header: "Authorization: Basic sk-ada", body: good, status: 401, code: "invalid_api_key"},
		{what: "no key for metrics", method: "GET", path: "/metrics", status: 401, code: "invalid_api_key"},
		{what: "a tenant in the admin API", method: "GET", path: "/kvasir/v1/decisions", key: "sk-ada", status: 403, code: "forbidden"},
		{what: "engines' memory", path: chat, key: "sk-ada", body: with(`"kv_transfer_params":{"remote_host":"10.0.0.1"}`), status: 400, code: "invalid_value"},
		{what: "a path with dots", path: "/v1/../v1/chat/completions", body: good, status: 404, code: "unknown_url"},
		{what: "a doubled slash", path: "//v1/chat/completions", body: good, status: 404, code: "unknown_url"},
		{what: "an encoded slash", path: "/v1%2fchat%2fcompletions", body: good, status: 401, code: "invalid_api_key"},
		{what: "a NUL in the path", path: "/v1/chat/completions%00", body: good, status: 404, code: "unknown_url"},
		{what: "a wrong method", method: "DELETE", path: chat, key: "sk-ada", status: 405, code: "method_not_allowed"},
		{what: "a large body", path: chat, key: "sk-ada", body: with(`"x":"` + strings.Repeat("x", 64<<10) + `"`), status: 413, code: "body_too_large"},
		{what: "a compressed body", path: chat, key: "sk-ada", header: "Content-Encoding: gzip", body: good, status: 415, code: "unsupported_content_encoding"},
		{what: "a key twice", path: chat, key: "sk-ada", body: with(`"model":"other"`), status: 400, code: "duplicate_parameter"},
		{what: "a salt twice", path: chat, key: "sk-ada", body: with(`"cache_salt":"a","cache_\u0073alt":"b"`), status: 400, code: "duplicate_parameter"},
		{what: "deep nesting", path: chat, key: "sk-ada", body: with(`"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)), status: 400, code: "invalid_json"},
		{what: "no JSON", path: chat, key: "sk-ada", body: "{", status: 400, code: "invalid_json"},
		{what: "two objects", path: chat, key: "sk-ada", body: good + good, status: 400, code: "invalid_json"},
		{what: "no UTF-8", path: chat, key: "sk-ada", body: with(`"x":"` + "\xff" + `"`), status: 400, code: "invalid_json"},
	} {
		status, body := g.raw(t, c.method, c.path, c.key, c.header, c.body, "")
		code := errorCode(body)
		if status != c.status || code != c.code || strings.Contains(body, "sk-") {
			t.Errorf("%s: %d %s, want %d %s: %.300s", c.what, status, code, c.status, c.code, body)
		}
	}
	if status, body := g.raw(t, "", chat, "sk-ada", "", good[:20], fmt.Sprint(len(good))); status != 400 || errorCode(body) != "unreadable_body" {
		t.Errorf("a body that stops: %d %s", status, body)
	}
	flood := strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", 200)
	if status, body := g.raw(t, "", chat, "sk-ada", strings.TrimSuffix(flood, "\r\n"), good, ""); status != 431 {
		t.Errorf("a flood of headers: %d %s", status, body)
	}
	if status, body := g.raw(t, "", chat, "sk-ada", "", good, ""); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}

	_, metrics := g.keyed("sk-ops", "/metrics", "")
	for _, counted := range []string{
		`kvasir_gateway_strangers_total{code="invalid_api_key"} 5`, `kvasir_gateway_strangers_total{code="forbidden"} 1`,
		`kvasir_gateway_strangers_total{code="unknown_url"} 3`, `kvasir_gateway_strangers_total{code="method_not_allowed"} 1`,
		`outcome="duplicate_parameter"} 2`, `outcome="invalid_json"} 4`, `outcome="body_too_large"} 1`, `outcome="unsupported_content_encoding"} 1`,
		`outcome="unreadable_body"} 1`, `outcome="invalid_value"} 1`,
	} {
		if !strings.Contains(metrics, counted) {
			t.Errorf("not counted: %s", counted)
		}
	}
}

func errorCode(body string) string {
	var e struct{ Error struct{ Code any } }
	_ = json.Unmarshal([]byte(body), &e) // no code is told by the caller
	return fmt.Sprint(e.Error.Code)
}

// raw sends a request as it is, which an HTTP client would not, and of which
// length may promise more than body has.
func (g gateway) raw(t *testing.T, method, path, key, header, body, length string) (status int, answer string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if method == "" {
		method = http.MethodPost
	}
	if key != "" {
		header = strings.TrimPrefix(header+"\r\nAuthorization: Bearer "+key, "\r\n")
	}
	if header != "" {
		header += "\r\n"
	}
	if length == "" {
		length = fmt.Sprint(len(body))
	}
	// What is refused early is not read to its end.
	go func() {
		_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %s\r\n%s\r\n%s", method, path, length, header, body)
	}()
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body) // what came is judged
	return r.StatusCode, string(b)
}
