package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyed sends a body with a key and returns status and answer.
func (g gateway) keyed(key, path, body string) (int, string) {
	g.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, g.url+path, bytes.NewBufferString(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// Tenants on a real engine: no key no answer, nobody finds what another tenant
// had computed, not even by naming its salt, tenants of a group share, and a
// changed keys file counts at once.
func TestTenants(t *testing.T) {
	keys := writeFile(t, "keys.yaml", `
tenants:
  - {name: ada, keys: ["env:ADA_KEY"]}
  - {name: bob, keys: ["sha256:9d1e5ba40ab2ab2c4bdd6d62a4a1de1a4ce46e0ed59ecd7dfd9a9d3f8c2a4ab1"]}
  - {name: eve, keys: ["env:EVE_KEY"]}
  - {name: one, keys: ["env:ONE_KEY"], group: team}
  - {name: two, keys: ["env:TWO_KEY"], group: team}
`)
	g := startUp(t, []string{"KVASIR_AUTH_KEYS_FILE=" + keys, "ADA_KEY=sk-ada", "EVE_KEY=sk-eve", "ONE_KEY=sk-one", "TWO_KEY=sk-two"},
		"--workers", "1", "--model", smollm2(t))
	prompt := func(extra string) string {
		return fmt.Sprintf(`{"model":"SmolLM2-135M-Instruct","max_tokens":1,"prompt":%q%s}`, essay("secret plans", 200), extra)
	}
	for _, key := range []string{"", "sk-nobody"} {
		if status, body := g.keyed(key, "/v1/completions", prompt("")); status != 401 || !strings.Contains(body, "invalid_api_key") {
			t.Errorf("with key %q: %d %s", key, status, body)
		}
	}
	cached := func(key, extra string) (n int) {
		t.Helper()
		status, body := g.keyed(key, "/v1/completions", prompt(extra))
		i := strings.Index(body, `"cached_tokens":`)
		if status != 200 || i < 0 {
			t.Fatalf("%s: %d %s", key, status, body)
		}
		fmt.Sscan(body[i+len(`"cached_tokens":`):], &n)
		return n
	}
	if n := cached("sk-ada", ""); n != 0 {
		t.Errorf("the first prompt had %d tokens cached", n)
	}
	own := cached("sk-ada", "")
	if own < 100 {
		t.Errorf("ada found only %d tokens of her own", own)
	}
	for _, extra := range []string{"", `,"cache_salt":null`, `,"cache_salt":"ada"`} {
		if n := cached("sk-eve", extra); n != 0 && extra != `,"cache_salt":null` {
			t.Errorf("eve found %d tokens of ada's with %s", n, extra)
		}
	}
	if n := cached("sk-one", ""); n != 0 {
		t.Errorf("one found %d tokens of others", n)
	}
	if n := cached("sk-two", ""); n != own {
		t.Errorf("two found %d tokens of its group's, not %d", n, own)
	}

	if status, _ := g.keyed("sk-ada", "/kvasir/v1/decisions", ""); status != 403 {
		t.Errorf("ada reads decisions: %d", status)
	}
	if err := os.WriteFile(keys, []byte(`tenants: [{name: ada, keys: ["env:ADA_KEY"], admin: true}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	g.eventually("eve is nobody any more and ada may read decisions", func() error {
		eve, _ := g.keyed("sk-eve", "/v1/models", "")
		ada, _ := g.keyed("sk-ada", "/kvasir/v1/decisions", "")
		if eve != 401 || ada != 200 {
			return fmt.Errorf("%d, %d", eve, ada)
		}
		return nil
	})
	if err := os.WriteFile(keys, []byte("tenants: [{nmae: ada}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.waitLine(filepath.Base(keys) + ":1: ")
	if ada, _ := g.keyed("sk-ada", "/v1/models", ""); ada != 200 {
		t.Errorf("a broken file locked ada out: %d", ada)
	}
}
