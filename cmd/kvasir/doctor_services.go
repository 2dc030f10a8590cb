package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore"
)

// clockSkew is how far a service's clock may be from ours before we say so:
// leases and TTLs are its clock's.
const clockSkew = 2 * time.Second

func serviceChecks(cfg *config.Config) (checks []check) {
	if cfg.Discovery.Etcd != nil {
		checks = append(checks, check{"etcd", checkEtcd})
	}
	if cfg.Tiers.Redis != nil {
		for i, u := range append([]string{cfg.Tiers.Redis.URL}, cfg.Tiers.Redis.More...) {
			name := "redis"
			if i > 0 {
				name = fmt.Sprintf("redis %d", i+1)
			}
			checks = append(checks, check{name, func(ctx context.Context, cfg *config.Config) (verdict, string) {
				return checkRedis(ctx, u, cfg.Tiers.Redis.CA)
			}})
		}
	}
	checks = append(checks, check{"peer transport", checkPeers})
	for _, w := range cfg.Workers {
		if w.URL == "" {
			continue
		}
		checks = append(checks, check{"engine " + w.ID, func(ctx context.Context, _ *config.Config) (verdict, string) {
			return checkEngine(ctx, w.URL)
		}}, check{"tokens " + w.ID, func(ctx context.Context, cfg *config.Config) (verdict, string) {
			return checkTokens(ctx, cfg, w)
		}})
	}
	return checks
}

func checkEtcd(ctx context.Context, cfg *config.Config) (verdict, string) {
	e := cfg.Discovery.Etcd
	c, err := clientv3.New(clientv3.Config{Logger: zap.NewNop(), Endpoints: e.Endpoints, Username: e.Username, Password: e.Password, DialTimeout: 3 * time.Second, Context: ctx})
	if err != nil {
		return verdictFail, err.Error()
	}
	defer c.Close()
	r, err := c.Get(ctx, e.Prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return verdictFail, fmt.Sprintf("%s: %v", strings.Join(e.Endpoints, ", "), err)
	}
	return verdictOK, fmt.Sprintf("%d keys under %s", r.Count, e.Prefix)
}

// checkPeers says what moves blocks between workers.
func checkPeers(_ context.Context, cfg *config.Config) (verdict, string) {
	const nixl = "NIXL is not used: this build has no transport for it, installed or not"
	p := cfg.Tiers.Peer
	if p == nil {
		return verdictOK, "off (tiers.peer); " + nixl
	}
	if _, err := peerTier(p); err != nil {
		return verdictFail, err.Error()
	}
	return verdictOK, fmt.Sprintf("TCP, listening at %s; %s", cmp.Or(p.Listen, "a free port of this machine"), nixl)
}

func checkRedis(ctx context.Context, url, ca string) (verdict, string) {
	redis.SetLogger(quiet{})
	c, err := redisstore.NewClient(url, ca)
	if err != nil {
		return verdictFail, err.Error()
	}
	defer c.Close()
	before := time.Now()
	theirs, err := c.Time(ctx).Result()
	if err != nil {
		return verdictFail, err.Error()
	}
	took := time.Since(before)
	if skew := theirs.Sub(before.Add(took / 2)); skew.Abs() > clockSkew {
		return verdictNote, fmt.Sprintf("its clock is %s from ours", skew.Round(time.Millisecond))
	}
	policy, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
	if err == nil && policy["maxmemory-policy"] == "noeviction" {
		return verdictNote, fmt.Sprintf("answers in %s; maxmemory-policy is noeviction, so a full server refuses blocks: set allkeys-lru", took.Round(10*time.Microsecond))
	}
	return verdictOK, fmt.Sprintf("answers in %s", took.Round(10*time.Microsecond))
}

// quiet keeps go-redis' own log out of the findings.
type quiet struct{}

// Printf implements go-redis' logger.
func (quiet) Printf(context.Context, string, ...any) {}

func checkEngine(ctx context.Context, url string) (verdict, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/health", nil)
	if err != nil {
		return verdictFail, err.Error()
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return verdictFail, err.Error()
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return verdictFail, fmt.Sprintf("%s/health answers %s", url, r.Status)
	}
	return verdictOK, url + " is healthy"
}

// aliasChecks shows which settings of other systems are in the environment and
// what they became.
func aliasChecks(env []string) (checks []check) {
	for _, a := range config.Aliases {
		for _, kv := range env {
			if name, value, _ := strings.Cut(kv, "="); name == a.Name {
				checks = append(checks, check{a.Name, func(context.Context, *config.Config) (verdict, string) {
					return verdictOK, fmt.Sprintf("%s is read as %s", value, a.Setting)
				}})
			}
		}
	}
	return checks
}
