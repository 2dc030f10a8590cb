package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every query of the boards and every alert runs against a real Prometheus that
// scrapes a real gateway and a real agent, and asks only for metrics that one of
// them has.
func TestBoardsAndAlerts(t *testing.T) {
	_, err := exec.LookPath("prometheus")
	need(t, err == nil, "Prometheus")
	gatewayAdmin, agentMetrics := freePort(t), freePort(t)
	metered := fmt.Sprintf("127.0.0.1:%d", agentMetrics)
	etcdPort, peerPort := freePort(t), freePort(t)
	etcdServer(t, etcdPort, peerPort, t.TempDir())
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
admin: 127.0.0.1:%d
models: [{name: tiny}]
discovery: {etcd: {endpoints: ["127.0.0.1:%d"]}}
agent: {model: tiny, engine: embedded, metrics: %q}
tiers: {cpu: 1MiB}
`, gatewayAdmin, etcdPort, metered))
	start(t, "worker", []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", "w0").waitLine("worker is up")
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", config))
	prometheus := prometheusServer(t, fmt.Sprintf("127.0.0.1:%d", gatewayAdmin), metered)

	// A conversation, so that there are tokens and a cached prefix to show.
	c := g.talk("tiny")
	for range 3 {
		c.say(strings.Repeat("a few words ", 10), 3)
	}
	prometheus.eventually("the scrapes show the requests", func() error {
		if n := prometheus.ask(t, `sum(kvasir_gateway_requests_total{outcome="ok"}) >= 3 and sum(kvasir_kvbm_slots) > 0`); n == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	known := prometheus.metricNames(t)
	for _, expr := range append(boardQueries(t), alertQueries(t)...) {
		prometheus.ask(t, expr)
		for _, name := range metricName.FindAllString(expr, -1) {
			// A counter with labels shows itself once it has counted.
			if !known[name] && !described(t, name) {
				t.Errorf("nobody has %s, of %s", name, expr)
			}
		}
	}
	for _, expr := range []string{
		"sum(kvasir_worker_ready)", "sum(kvasir_gateway_in_flight)", "sum by (tier) (kvasir_index_memberships)",
		`histogram_quantile(0.5, sum by (le) (kvasir_gateway_time_to_first_token_seconds_bucket))`, "kvbm_matched_tokens", "kvbm_host_cache_hit_rate",
	} {
		if prometheus.ask(t, expr) == 0 {
			t.Errorf("%s shows nothing", expr)
		}
	}
}

// promtool, where it is installed, agrees with the rules and with the form of
// what is exported.
func TestPromtoolAgrees(t *testing.T) {
	_, err := exec.LookPath("promtool")
	need(t, err == nil, "promtool")
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", "../../deploy/prometheus/kvasir.rules.yml").CombinedOutput(); err != nil {
		t.Errorf("check rules: %v\n%s", err, out)
	}
	g := startUp(t, nil, "--model", smollm2(t))
	g.talk("SmolLM2-135M-Instruct").say("x", 2)
	r, err := http.Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = r.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("check metrics: %v\n%s", err, out)
	}
}

type prometheusProcess struct {
	*process
	url string
}

func prometheusServer(t *testing.T, targets ...string) prometheusProcess {
	t.Helper()
	list, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, "prometheus.yml",
		fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: kvasir, static_configs: [{targets: %s}]}]\n", list))
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, "prometheus", nil, "prometheus", "--config.file="+config, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr)
	s := prometheusProcess{p, "http://" + addr}
	s.eventually("Prometheus is ready", func() error { return statusOK(s.url + "/-/ready") })
	return s
}

// get reads one answer of Prometheus's API.
func (p prometheusProcess) get(t *testing.T, path string, result any) {
	t.Helper()
	r, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: result}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Errorf("%s: %v %s", path, err, answer.Error)
	}
}

// ask runs a query and says how many series it gave.
func (p prometheusProcess) ask(t *testing.T, expr string) int {
	t.Helper()
	var data struct{ Result []any }
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result)
}

func (p prometheusProcess) metricNames(t *testing.T) map[string]bool {
	t.Helper()
	var names []string
	p.get(t, "/api/v1/label/__name__/values", &names)
	known := map[string]bool{}
	for _, n := range names {
		known[n] = true
	}
	return known
}

var metricName = regexp.MustCompile(`\bk(?:vasir|vbm)_[a-z0-9_]+`)

// described reports whether the reference page has the metric, which the code
// itself writes.
func described(t *testing.T, name string) bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return strings.Contains(string(page), "`"+name+"`")
}

// boardQueries are the boards' queries with their variables filled in.
func boardQueries(t *testing.T) (queries []string) {
	t.Helper()
	boards, err := filepath.Glob("../../deploy/grafana/boards/*.json")
	if err != nil || len(boards) < 2 {
		t.Fatalf("%d boards, %v", len(boards), err)
	}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$model", ".*", "$worker", ".*", "$instance", ".*")
	for _, file := range boards {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(b, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				queries = append(queries, fill.Replace(target.Expr))
			}
		}
	}
	if len(queries) < 40 {
		t.Fatalf("only %d queries", len(queries))
	}
	return queries
}

// alertQueries are the expressions of the alerts.
func alertQueries(t *testing.T) (queries []string) {
	t.Helper()
	b, err := os.ReadFile("../../deploy/prometheus/kvasir.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			queries = append(queries, r.Expr)
		}
	}
	if len(queries) < 5 {
		t.Fatalf("only %d alerts", len(queries))
	}
	return queries
}
