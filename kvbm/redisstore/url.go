package redisstore

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errURL never quotes the URL, which may hold a password.
var errURL = errors.New("redis tier: the URL cannot be read; use redis://[user:password@]host:port/db, rediss:// for TLS, or unix:///path?db=0; " +
	"?cluster=true for a cluster, ?master_name=NAME behind sentinels, with further nodes or sentinels as &addr=host:port")

// CheckURL tells whether Open can read a URL.
func CheckURL(u string) error {
	_, _, err := parseURL(u)
	return err
}

// NewClient is a plain client of what a URL names: a server, a cluster, or the
// master behind sentinels. A caFile holds the certificates that a server's is
// checked with; empty: the system's.
func NewClient(u, caFile string) (redis.UniversalClient, error) {
	opts, _, err := options(u, caFile)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(opts), nil
}

func options(u, caFile string) (*redis.UniversalOptions, string, error) {
	opts, where, err := parseURL(u)
	if err != nil {
		return nil, "", err
	}
	if opts.TLSConfig != nil && caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, "", fmt.Errorf("redis tier: %w", err)
		}
		opts.TLSConfig.RootCAs = x509.NewCertPool()
		if !opts.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("redis tier: %s holds no certificate", caFile)
		}
	}
	return opts, where, nil
}

// parseURL yields the connection options and the store's public name: where it
// is, and not who we are there. Our own parameters come before go-redis', whose
// parser refuses what it does not know.
func parseURL(u string) (*redis.UniversalOptions, string, error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return nil, "", errURL
	}
	q := parsed.Query()
	more, master := q["addr"], q.Get("master_name")
	cluster := q.Get("cluster") == "true" || len(more) > 0 && master == ""
	sentinelUser, sentinelPassword := q.Get("sentinel_username"), q.Get("sentinel_password")
	for _, ours := range []string{"addr", "master_name", "cluster", "sentinel_username", "sentinel_password"} {
		q.Del(ours)
	}
	parsed.RawQuery = q.Encode()
	one, err := redis.ParseURL(parsed.String())
	if err != nil || cluster && (master != "" || one.DB != 0 || one.Network == "unix") {
		return nil, "", errURL
	}
	where := url.URL{Scheme: "redis", Host: strings.Join(append([]string{one.Addr}, more...), ","), Path: "/" + strconv.Itoa(one.DB)}
	switch {
	case one.Network == "unix":
		where = url.URL{Scheme: "unix", Path: one.Addr, RawQuery: "db=" + strconv.Itoa(one.DB)}
	case one.TLSConfig != nil:
		where.Scheme = "rediss"
	}
	if master != "" {
		where.RawQuery = "master_name=" + url.QueryEscape(master)
	}
	return &redis.UniversalOptions{
		Addrs: append([]string{one.Addr}, more...), MasterName: master, IsClusterMode: cluster,
		DB: one.DB, Username: one.Username, Password: one.Password, Protocol: one.Protocol, TLSConfig: one.TLSConfig,
		SentinelUsername: sentinelUser, SentinelPassword: sentinelPassword,
	}, where.String(), nil
}
