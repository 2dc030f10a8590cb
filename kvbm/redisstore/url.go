package redisstore

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// errURL never quotes the URL, which may hold a password.
var errURL = errors.New("redis tier: the URL cannot be read; use redis://[user:password@]host:port/db, rediss:// for TLS, or unix:///path?db=0")

// CheckURL tells whether Open can read a URL.
func CheckURL(u string) error {
	_, _, err := parseURL(u)
	return err
}

// parseURL yields the connection options and the store's public name: where it
// is, and not who we are there.
func parseURL(u string) (*redis.Options, string, error) {
	opts, err := redis.ParseURL(u)
	if err != nil {
		return nil, "", errURL
	}
	where := url.URL{Scheme: "redis", Host: opts.Addr, Path: "/" + strconv.Itoa(opts.DB)}
	switch {
	case opts.Network == "unix":
		where = url.URL{Scheme: "unix", Path: opts.Addr, RawQuery: "db=" + strconv.Itoa(opts.DB)}
	case opts.TLSConfig != nil:
		where.Scheme = "rediss"
	}
	return opts, where.String(), nil
}
