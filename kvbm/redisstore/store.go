package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// What a call ends with besides success and connection errors.
var (
	ErrMiss    = errors.New("redis tier: no such block")
	ErrCorrupt = errors.New("redis tier: the block is not what was written")
)

const (
	// chunkBytes is a value size at which Redis is near its fastest; several
	// times more is slower again.
	chunkBytes = 2 << 20
	// callTimeout ends a whole call, dialTimeout the making of a connection.
	callTimeout = time.Second
	dialTimeout = 500 * time.Millisecond
)

// Options are what a Store is opened with.
type Options struct {
	URL         string
	CA          string // file of certificates for rediss://; empty: the system's
	TTL         time.Duration
	BlockBytes  int
	Fingerprint kv.Hash // of the layout; blocks of others are invisible
	Connections int
}

// Store is a connection pool to one Redis: a server, a cluster, or the master
// behind sentinels. Its methods are safe for concurrent use.
type Store struct {
	client     redis.UniversalClient
	name       string
	prefix     string
	ttl        time.Duration
	blockBytes int
}

// quiet keeps go-redis from writing to stderr by itself: the block manager says
// what an operator should know.
var quiet = sync.OnceFunc(func() { redis.SetLogger(discard{}) })

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// Open prepares connections. It does not need Redis to be up.
func Open(_ context.Context, o Options) (*Store, error) {
	opts, where, err := options(o.URL, o.CA)
	if err != nil {
		return nil, err
	}
	quiet()
	opts.PoolSize = o.Connections
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.DialTimeout = dialTimeout
	opts.ReadTimeout = callTimeout
	opts.WriteTimeout = callTimeout
	opts.PoolTimeout = callTimeout
	opts.ContextTimeoutEnabled = true
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Store{
		client:     redis.NewUniversalClient(opts),
		name:       where + "#" + o.Fingerprint.String(),
		prefix:     "kvasir:" + o.Fingerprint.String() + ":",
		ttl:        o.TTL,
		blockBytes: o.BlockBytes,
	}, nil
}

// Name tells stores apart: where Redis is, and the layout. It holds no
// password.
func (s *Store) Name() string { return s.name }

// Close closes the connections.
func (s *Store) Close() error { return s.client.Close() }

// key has the hash in braces, so that all keys of a block are on one node of a
// cluster.
func (s *Store) key(h kv.Hash) string { return s.prefix + "{" + h.String() + "}" }

// chunks yields the keys and the byte ranges of a block's chunks.
func (s *Store) chunks(h kv.Hash, yield func(key string, from, to int)) {
	base := s.key(h) + ":"
	for i, from := 0, 0; from < s.blockBytes; i, from = i+1, from+chunkBytes {
		yield(base+strconv.Itoa(i), from, min(from+chunkBytes, s.blockBytes))
	}
}

// Get reads a block into dst and verifies it. Without an error dst[:BlockBytes]
// are the block's bytes; with one they are undefined. A block that does not
// check is deleted, so that it is written anew.
func (s *Store) Get(ctx context.Context, h kv.Hash, dst []byte) (kv.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := s.read(ctx, h, dst)
	if !errors.Is(err, ErrCorrupt) {
		return b, err
	}
	keys := []string{s.key(h)}
	s.chunks(h, func(key string, _, _ int) { keys = append(keys, key) })
	if del := s.client.Del(ctx, keys...).Err(); del != nil {
		return b, errors.Join(ErrCorrupt, s.wrap("del", del))
	}
	return b, ErrCorrupt
}

func (s *Store) read(ctx context.Context, h kv.Hash, dst []byte) (kv.Block, error) {
	pipe := s.client.Pipeline()
	head := pipe.Get(ctx, s.key(h))
	var parts []*redis.ZeroCopyStringCmd
	got, want := 0, s.blockBytes
	s.chunks(h, func(key string, from, to int) { parts = append(parts, pipe.GetToBuffer(ctx, key, dst[from:to])) })
	s.renew(ctx, pipe, h)
	// The pipeline's own error is that of its first failing command; each one
	// is looked at below.
	_, _ = pipe.Exec(ctx)
	raw, err := head.Bytes()
	if err != nil {
		return kv.Block{}, s.wrap("get", err)
	}
	for _, part := range parts {
		n, err := part.Result()
		if err != nil {
			return kv.Block{}, s.wrap("get", err)
		}
		got += n // a short chunk makes the sum short, and a long one does not fit
	}
	meta, ok := parseHeader(raw)
	if !ok || got != want || meta.block.Hash != h || meta.length != uint64(want) || xxh3.Hash(dst[:want]) != meta.sum {
		return kv.Block{}, ErrCorrupt
	}
	return meta.block, nil
}

// renew queues commands that give all of a block's keys a fresh time to live.
func (s *Store) renew(ctx context.Context, pipe redis.Pipeliner, h kv.Hash) {
	pipe.PExpire(ctx, s.key(h), s.ttl)
	s.chunks(h, func(key string, _, _ int) { pipe.PExpire(ctx, key, s.ttl) })
}

// Put writes a block, unless Redis has it from another worker: then there is
// true and only its time to live is renewed.
func (s *Store) Put(ctx context.Context, b kv.Block, src []byte) (there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if there, err = s.has(ctx, b.Hash); there || err != nil {
		return there, err
	}
	pipe := s.client.Pipeline()
	s.chunks(b.Hash, func(key string, from, to int) { pipe.Set(ctx, key, src[from:to], s.ttl) })
	head := header{block: b, length: uint64(s.blockBytes), sum: xxh3.Hash(src[:s.blockBytes])}
	pipe.Set(ctx, s.key(b.Hash), head.encode(), s.ttl)
	_, err = pipe.Exec(ctx)
	return false, s.wrap("set", err)
}

func (s *Store) has(ctx context.Context, h kv.Hash) (bool, error) {
	pipe := s.client.Pipeline()
	all := int64(1)
	keys := []string{s.key(h)}
	s.chunks(h, func(key string, _, _ int) { keys = append(keys, key); all++ })
	n := pipe.Exists(ctx, keys...)
	s.renew(ctx, pipe, h)
	if _, err := pipe.Exec(ctx); err != nil {
		return false, s.wrap("exists", err)
	}
	return n.Val() == all, nil
}

// wrap says what failed. A missing key is a miss.
func (s *Store) wrap(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return ErrMiss
	case strings.Contains(err.Error(), "buffer too small"), // go-redis has no value for it
		strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return ErrCorrupt
	}
	return fmt.Errorf("redis tier: %s: %w", op, err)
}
