package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const whole = `
listen: 0.0.0.0:9000
models:
  - name: qwen3
    tokenizer: /models/qwen3
workers:
  - id: w0
    model: qwen3
    url: http://127.0.0.1:8101
    engine: vllm
    role: aggregated
    block_size: 16
    events: {endpoint: "tcp://127.0.0.1:5557", replay: "tcp://127.0.0.1:5558", topic: ""}
    agent: unix:///run/kvasir/w0.sock
router: {policy: predicted, seed: 7}
tiers: {cpu: 4GiB, disk: {path: /var/lib/kvasir, size: 8GiB}, redis: {url: redis://127.0.0.1:6379/0, ttl: 1h}}
limits: {body: 32Ki, first_byte: 250ms}
`

func TestWholeFile(t *testing.T) {
	c, err := Parse("k.yaml", []byte(whole), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := c.Workers[0]
	if w.ID != "w0" || w.Role != kv.Aggregated || w.BlockSize != 16 || w.Events.Replay != "tcp://127.0.0.1:5558" {
		t.Errorf("worker read as %+v", w)
	}
	if c.Tiers.CPU != 4<<30 || c.Tiers.Disk.Size != 8<<30 || time.Duration(c.Tiers.Redis.TTL) != time.Hour {
		t.Errorf("tiers read as %+v", c.Tiers)
	}
	if c.Limits.Body != 32<<10 || time.Duration(c.Limits.FirstByte) != 250*time.Millisecond {
		t.Errorf("limits read as %+v", c.Limits)
	}
	if c.Limits.InFlight != Default().Limits.InFlight {
		t.Errorf("a setting that the file leaves out lost its default: %d", c.Limits.InFlight)
	}
}

// problems parses and returns what is wrong, one problem a line.
func problems(t *testing.T, src string, env ...string) string {
	t.Helper()
	_, err := Parse("k.yaml", []byte(src), env)
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestProblemsNameFileLineAndWhatWasExpected(t *testing.T) {
	for src, want := range map[string]string{
		"listne: :8000\n":                       `k.yaml:1: unknown setting "listne"; expected one of admin, agent,`,
		"router:\n  polcy: x\n":                 `k.yaml:2: unknown setting "polcy" under router; expected one of policy, seed`,
		"listen: :1\nlisten: :2\n":              `k.yaml:2: listen: already set on line 1`,
		"workers: 3\n":                          `k.yaml:1: workers: expected a list, found "3"`,
		"workers:\n  - block_size: many\n":      `k.yaml:2: workers[0].block_size: "many" is not a whole number`,
		"router: [a]\n":                         `k.yaml:1: router: expected settings (key: value), found a list`,
		"listen: {a: b}\n":                      `k.yaml:1: listen: expected one value, found settings`,
		"tiers: {eviction: fifo}\n":             `k.yaml:1: tiers.eviction: is "fifo"; use lru or arc`,
		"tiers:\n  cpu: lots\n":                 `k.yaml:2: tiers.cpu: "lots" is not a size`,
		"tiers:\n  disk:\n    path: /x\n":       `k.yaml:3: tiers.disk.size: missing`,
		"listen: [\n":                           `not YAML`,
		"listen: :1\n---\nlisten: :2\n":         `more than one YAML document`,
		"router: {policy: best}\n":              `k.yaml:1: router.policy: "best" is not one of predicted`,
		"workers:\n  - {id: a, url: ftp://x}\n": `k.yaml:2: workers[0].url: "ftp://x" is not a URL`,
		"workers:\n  - {id: a}\n":               `k.yaml:2: workers[0].url: missing`,
		"workers:\n  - {id: a, role: boss}\n":   `k.yaml:2: workers[0].role: kv: unknown role "boss"`,
		"workers:\n  - {id: a, url: http://x, ranks: 2, agent: unix:///a}\n": `leave those out`,
		"workers:\n  - {id: a, url: http://x, api_key: k, api_key_env: K}\n": `set besides api_key`,
		"tiers: {peer: {listen: \"0.0.0.0:7001\"}}\n":                        `k.yaml:1: tiers.peer.secret: missing`,
		"tiers: {peer: {listen: \":7001\", secret: a, secret_file: b}}\n":    `set besides secret`,
		"tiers: {peer: {cert: a}}\n":                                         `belong together`,
		"tiers: {peer: 3}\n":                                                 `k.yaml:1: tiers.peer: expected settings`,
		"tiers: {redis: {url: \"redis://h\", more: [\"http://h\"]}}\n":       `tiers.redis.more[0]`,
		"listen: nowhere\n":                                                  `k.yaml:1: listen: "nowhere" is not an address`,
		"discovery:\n  etcd: {}\n":                                           `k.yaml:2: discovery.etcd.endpoints: missing`,
	} {
		if got := problems(t, src); !strings.Contains(got, want) {
			t.Errorf("%q:\n got %s\nwant %s", src, got, want)
		}
	}
}

// Workers that are to share requests are checked for whether they can.
func TestRolesThatDoNotFit(t *testing.T) {
	const p, d = "  - {id: p, url: http://x, role: prefill%s}\n", "  - {id: d, url: http://y, role: decode%s}\n"
	for _, c := range []struct{ prefill, decode, more, want string }{
		{p, "", "", "k.yaml:2: workers[0].role: no decode worker"},
		{"", d, "", "workers[0].role: no prefill worker"},
		{p, d, ", engine: embedded", "the embedded engine hands no KV over"},
		{p, d, ", model: a", ""},
		{p, d, ", engine: sglang, connector: nixl", "is vLLM's"},
		{p, d, ", connector: carrier", "is not one of nixl, mooncake"},
		{p, d, ", bootstrap: \"h:1\"", "only prefill workers that are SGLang"},
		{p, d, ", bootstrap: h", "is not an address"},
		{"  - {id: p, url: http://x, role: prefill, engine: sglang}\n", d, "", "is vllm, and the prefill worker \"p\" is sglang"},
		{"  - {id: p, url: http://x, role: prefill, connector: mooncake, bootstrap: \"h:1\"}\n", d, "", ""},
		{"  - {id: p, url: http://x, role: prefill, block_size: 16}\n", "  - {id: d, url: http://x, role: decode, block_size: 32}\n", "", "32 tokens, and 16 at the prefill worker"},
		{p, d, "", ""},
	} {
		with := func(w string) string { return strings.Replace(w, "%s", c.more, 1) }
		got := problems(t, "workers:\n"+with(c.prefill)+with(c.decode))
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if got := problems(t, "discovery: {file: /x}\nworkers:\n"+strings.Replace(p, "%s", "", 1)); got != "" {
		t.Errorf("the decode workers may come from the file: %s", got)
	}
}

func TestProblemsKeepPasswords(t *testing.T) {
	for _, url := range []string{"redis://:secret@host:16x99/0", "http://u:secret@host:6379"} {
		if got := problems(t, "tiers: {redis: {url: \""+url+"\"}}\n"); !strings.Contains(got, "tiers.redis.url") || strings.Contains(got, "secret") {
			t.Errorf("got %s", got)
		}
	}
}

func TestAllProblemsAtOnceInLineOrder(t *testing.T) {
	got := problems(t, "b: 1\ntiers: {cpu: x}\na: 2\n")
	if n := strings.Count(got, "\n") + 1; n != 3 || !strings.HasPrefix(got, "k.yaml:1:") || !strings.Contains(got, "\nk.yaml:3:") {
		t.Errorf("got %s", got)
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	c, err := Parse("k.yaml", []byte(whole), []string{"KVASIR_LISTEN=:1", "KVASIR_TIERS_DISK_PATH=/elsewhere", "KVASIR_ROUTER_SEED=9"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":1" || c.Tiers.Disk.Path != "/elsewhere" || c.Router.Seed != 9 {
		t.Errorf("environment did not win: %+v", c)
	}
	if got := problems(t, "", "KVASIR_TIERS_CPU=x"); !strings.Contains(got, "environment: KVASIR_TIERS_CPU") {
		t.Errorf("got %s", got)
	}
}

// The peer tier's defaults work, so true and false stand for it and its absence.
func TestThePeerTierIsSwitched(t *testing.T) {
	for src, on := range map[string]bool{"peer: true": true, "peer: false": false, "peer: {}": true, "peer: {listen: 127.0.0.1:7001}": true, "cpu: 1GB": false} {
		c, err := Parse("k.yaml", []byte("tiers: {"+src+"}\n"), nil)
		if err != nil || (c.Tiers.Peer != nil) != on {
			t.Errorf("%s: %+v, %v", src, c, err)
		}
	}
	for value, on := range map[string]bool{"true": true, "false": false} {
		c, err := Parse("k.yaml", []byte("tiers: {peer: {secret: s}}\n"), []string{"KVASIR_TIERS_PEER=" + value})
		if err != nil || (c.Tiers.Peer != nil) != on {
			t.Errorf("KVASIR_TIERS_PEER=%s: %+v, %v", value, c, err)
		}
	}
}

func TestVariablesOfOtherSystems(t *testing.T) {
	c, err := FromEnv([]string{"DYN_KVBM_CPU_CACHE_GB=2", "LMCACHE_LOCAL_DISK=file:///d", "LMCACHE_MAX_LOCAL_DISK_SIZE=5.5"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Tiers.CPU != 2e9 || c.Tiers.Disk.Path != "/d" || c.Tiers.Disk.Size != 5.5e9 {
		t.Errorf("got %+v %+v", c.Tiers, c.Tiers.Disk)
	}
	c, err = Parse("k.yaml", []byte("tiers: {cpu: 1GB}\n"), []string{"DYN_KVBM_CPU_CACHE_GB=2"})
	if err != nil || c.Tiers.CPU != 1e9 {
		t.Errorf("an alias beat the file: %v %v", c, err)
	}
}

func TestReadyFilesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in configs: %v", err)
	}
	for _, f := range append(files, "../../deploy/kvasir.yaml") {
		if _, err := Load(f, nil); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("k.yaml", b, nil)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
	})
}

// FuzzKeys: a keys file is read, or refused with the line that is wrong.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`tenants: [{name: ada, keys: ["env:ADA_KEY"], admin: true, weight: 2, priority: high, models: [m]}]`))
	f.Add([]byte("tenants:\n  - {name: a, keys: [\"sha256:9d1e5ba40ab2ab2c4bdd6d62a4a1de1a4ce46e0ed59ecd7dfd9a9d3f8c2a4ab1\"], group: g}\n  - {nmae: a}\n"))
	f.Add([]byte("tenants: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		listed, err := ParseTenants("keys.yaml", b)
		if (listed == nil) == (err == nil) {
			t.Fatalf("got %v and %v", listed, err)
		}
		if err != nil && !strings.Contains(err.Error(), "keys.yaml") {
			t.Fatalf("%q does not name the file", err)
		}
	})
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "4096": 4096, "32Ki": 32 << 10, "4GB": 4e9, "1.5GiB": 3 << 29, "10 MiB": 10 << 20} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "NaN", "9e30", "GiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q: got %d", in, got)
		}
	}
}
