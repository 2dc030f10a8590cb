package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Policies that the router has.
var policies = []string{"predicted", "round-robin", "random", "least-loaded", "session-hash", "prefix-only", "dynamo", "llm-d", "smg"}

// Engines that a worker may be.
var engines = []string{"vllm", "sglang", "trtllm", "embedded"}

// validate reports what is wrong with values that parsed.
func (c *Config) validate(file string, lines map[string]int) []Problem {
	v := &validator{file: file, lines: lines}
	v.address("listen", c.Listen)
	if c.Admin != "" {
		v.address("admin", c.Admin)
	}
	v.models(c.Models)
	v.workers(c.Workers, c.Models)
	if c.Discovery.Etcd == nil && c.Discovery.File == "" { // else the others may come from there
		v.roles(c.Workers)
	}
	v.discovery(c.Discovery)
	v.oneOf("router.policy", c.Router.Policy, policies...)
	if c.Limits.Body <= 0 {
		v.fail("limits.body", "must be more than 0")
	}
	if c.Limits.InFlight <= 0 {
		v.fail("limits.in_flight", "must be more than 0")
	}
	if t := c.TLS; t != nil && (t.Cert == "" || t.Key == "") {
		v.fail("tls", "needs cert and key")
	}
	if f := c.Fleet; f != nil {
		if f.Secret != "" && f.SecretFile != "" {
			v.fail("fleet.secret", "give either secret or secret_file")
		}
		if given := [3]bool{f.CA != "", f.Cert != "", f.Key != ""}; given != [3]bool{} && given != [3]bool{true, true, true} {
			v.fail("fleet", "ca, cert and key belong together; give all three or none")
		}
	}
	v.queue(c.Limits)
	if c.Auth != nil && c.Auth.KeysFile == "" {
		v.fail("auth.keys_file", "is missing")
	}
	v.tiers(c.Tiers)
	v.agent(c.Agent)
	v.oneOf("telemetry.log_level", c.Telemetry.LogLevel, "debug", "info", "warn", "error")
	v.oneOf("telemetry.log_format", c.Telemetry.LogFormat, "text", "json")
	if c.Telemetry.OTLP != "" {
		v.url("telemetry.otlp", c.Telemetry.OTLP, "http", "https")
	}
	return v.problems
}

// queue checks the limits of what waits, and of who does not take its answer.
func (v *validator) queue(l Limits) {
	if l.QueueAhead == 0 {
		v.fail("limits.queue_ahead", "must not be 0: give a time, or less than 0 for no queue")
	}
	for name, n := range map[string]int64{"queue": int64(l.Queue), "queue_bytes": int64(l.QueueBytes)} {
		if n <= 0 {
			v.fail("limits."+name, "must be more than 0; queue_ahead: -1s does without a queue")
		}
	}
	if l.TTFT < 0 {
		v.fail("limits.ttft", "must not be below 0")
	}
	if l.BodyTime <= 0 {
		v.fail("limits.body_time", "must be more than 0: how long a client may take to send its body")
	}
	if l.Idle <= 0 {
		v.fail("limits.idle", "must be more than 0: how long a stream's worker may be silent")
	}
	if l.ClientStall < Duration(2*time.Second) {
		v.fail("limits.client_stall", "must be at least 2s")
	}
	if l.EjectPercent < 0 || l.EjectPercent > 100 {
		v.fail("limits.eject_percent", "%d: want 0 to 100", l.EjectPercent)
	}
}

type validator struct {
	file     string
	lines    map[string]int
	problems []Problem
}

// fail points at the setting, or at the nearest one above it that the file has.
func (v *validator) fail(path, format string, args ...any) {
	line := 0
	for p := path; ; {
		if l, ok := v.lines[p]; ok {
			line = l
			break
		}
		cut := strings.LastIndexAny(p, ".[")
		if cut < 0 {
			break
		}
		p = p[:cut]
	}
	v.problems = append(v.problems, Problem{v.file, line, path + ": " + fmt.Sprintf(format, args...)})
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.fail(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func (v *validator) address(path, value string) {
	if _, _, err := net.SplitHostPort(value); err != nil {
		v.fail(path, "%q is not an address; write host:port or :port", value)
	}
}

func (v *validator) url(path, value string, schemes ...string) {
	u, err := url.Parse(value)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" && u.Path == "" {
		v.fail(path, "%q is not a URL with scheme %s", withoutUser(value), strings.Join(schemes, " or "))
	}
}

// withoutUser hides a user name and password in what may or may not be a URL.
func withoutUser(value string) string {
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		return "...@" + value[i+1:]
	}
	return value
}

func (v *validator) models(models []Model) {
	seen := map[string]bool{}
	for i, m := range models {
		path := fmt.Sprintf("models[%d].name", i)
		if m.Name == "" {
			v.fail(path, "missing; it is what clients put into \"model\"")
		} else if seen[m.Name] {
			v.fail(path, "%q is listed twice", m.Name)
		}
		seen[m.Name] = true
	}
}

func (v *validator) workers(workers []Worker, models []Model) {
	seen := map[string]bool{}
	for i, w := range workers {
		path := func(key string) string { return fmt.Sprintf("workers[%d].%s", i, key) }
		if w.ID == "" {
			v.fail(path("id"), "missing; every worker needs a unique name")
		} else if seen[w.ID] {
			v.fail(path("id"), "%q is listed twice", w.ID)
		}
		seen[w.ID] = true
		if len(models) > 0 && !slices.ContainsFunc(models, func(m Model) bool { return m.Name == w.Model }) {
			v.fail(path("model"), "%q is not one of models", w.Model)
		}
		if w.URL == "" {
			v.fail(path("url"), "missing; give the engine's base URL")
		} else {
			v.url(path("url"), w.URL, "http", "https")
		}
		if w.Engine != "" {
			v.oneOf(path("engine"), w.Engine, engines...)
		}
		v.handover(path, w)
		if w.BlockSize < 0 {
			v.fail(path("block_size"), "must be a number of tokens, or absent")
		}
		if w.Ranks < 0 {
			v.fail(path("ranks"), "%d; want the number of data-parallel ranks", w.Ranks)
		}
		if w.Ranks > 1 && (w.Events.Endpoint != "" || w.Agent != "") {
			v.fail(path("ranks"), "set besides events or agent, which are one rank's; leave those out: the engine is asked for each rank's events")
		}
		if w.APIKey != "" && w.APIKeyEnv != "" {
			v.fail(path("api_key_env"), "set besides api_key; give one of them")
		}
		v.events(path("events"), w.Events)
	}
}

func (v *validator) events(path string, e Events) {
	for _, s := range []struct{ key, value string }{{"endpoint", e.Endpoint}, {"replay", e.Replay}} {
		if s.value != "" {
			v.url(path+"."+s.key, s.value, "tcp", "ipc")
		}
	}
	if e.Replay != "" && e.Endpoint == "" {
		v.fail(path+".replay", "set without endpoint; replay alone gives no live events")
	}
}

func (v *validator) discovery(d Discovery) {
	if d.Etcd == nil {
		return
	}
	if len(d.Etcd.Endpoints) == 0 {
		v.fail("discovery.etcd.endpoints", "missing; give at least one host:port")
	}
	if (d.Etcd.Username == "") != (d.Etcd.Password == "") {
		v.fail("discovery.etcd.username", "username and password belong together")
	}
}

func (v *validator) tiers(t Tiers) {
	if t.Eviction != "" && t.Eviction != "lru" && t.Eviction != "arc" {
		v.fail("tiers.eviction", "is %q; use lru or arc", t.Eviction)
	}
	if t.Disk != nil {
		if t.Disk.Path == "" {
			v.fail("tiers.disk.path", "missing; give a folder on a local disk")
		}
		if t.Disk.Size <= 0 {
			v.fail("tiers.disk.size", "missing; give the slab's size, for example 8GiB")
		}
	}
	if t.Redis != nil {
		v.url("tiers.redis.url", t.Redis.URL, "redis", "rediss", "unix")
		for i, u := range t.Redis.More {
			v.url(fmt.Sprintf("tiers.redis.more[%d]", i), u, "redis", "rediss", "unix")
		}
	}
	if t.Peer != nil {
		v.peer(t.Peer)
	}
}

func (v *validator) peer(p *Peer) {
	if p.Listen != "" {
		v.address("tiers.peer.listen", p.Listen)
	}
	if p.Advertise != "" {
		v.address("tiers.peer.advertise", p.Advertise)
	}
	if p.Secret != "" && p.SecretFile != "" {
		v.fail("tiers.peer.secret_file", "set besides secret; give one of them")
	}
	if p.Secret == "" && p.SecretFile == "" && !p.local() {
		v.fail("tiers.peer.secret", "missing; %s can be reached from other machines, and whoever reaches it could read blocks", p.Listen)
	}
	if n := len(p.Cert) * len(p.Key) * len(p.CA); n == 0 && p.Cert+p.Key+p.CA != "" {
		v.fail("tiers.peer.cert", "cert, key and ca belong together")
	}
}

// local reports whether only this machine reaches the listener.
func (p *Peer) local() bool {
	if p.Listen == "" {
		return true
	}
	host, _, err := net.SplitHostPort(p.Listen)
	ip := net.ParseIP(host)
	return err != nil || host == "localhost" || ip != nil && ip.IsLoopback()
}

func (v *validator) agent(a Agent) {
	v.oneOf("agent.engine", a.Engine, engines...)
	if a.Engine != "embedded" && a.ID != "" && a.URL == "" {
		v.fail("agent.url", "missing; engine %s runs by itself, so give its base URL", a.Engine)
	}
	if a.URL != "" {
		v.url("agent.url", a.URL, "http", "https")
	}
	if a.Metrics != "" {
		v.address("agent.metrics", a.Metrics)
	}
	if a.Plugin != "" && a.Engine != "vllm" {
		v.fail("agent.plugin", "engine %s has no plug-in of ours; leave it out", a.Engine)
	}
	if b := a.Embedded.BlockSize; b < 1 || b > 1024 {
		v.fail("agent.embedded.block_size", "must be from 1 to 1024 tokens")
	}
	if a.Embedded.GPUBlocks < 2 {
		v.fail("agent.embedded.gpu_blocks", "must be at least 2")
	}
	v.events("agent.events", a.Events)
}
