package kvbm

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore"
)

// redisTier is one or more servers that share the blocks between them. Each block
// has its place on one of them, found from its hash alone: when one is away its
// blocks are missed, and those of the others stay where they are.
type redisTier struct {
	name    string
	known   *policy.Presence
	servers []*redisServer
}

// redisServer is one server, cluster or master behind sentinels. Its directions
// fail apart: a full server refuses blocks and still serves those it has.
type redisServer struct {
	name  string
	store sharedStore
	seed  uint64
	sides [2]health // by direction
	// discovered: what others stored there is known, or was asked for.
	discovered bool
}

// sharedStore is a redisstore.Store, or one with faults in a test.
type sharedStore interface {
	Put(context.Context, kv.Block, []byte) (there bool, err error)
	Get(context.Context, kv.Hash, []byte) (kv.Block, error)
	Discover(context.Context, func([]kv.Block) bool) error
	Lives(context.Context, []kv.Hash) ([]time.Duration, error)
	Name() string
	Close() error
}

// openRedis prepares connections. No server needs to be up.
func (m *Manager) openRedis(ctx context.Context, c Config) error {
	t := &redisTier{known: policy.NewPresence(maxKnown, c.Redis.TTL)}
	m.redis = t
	var names []string
	for _, u := range append([]string{c.Redis.URL}, c.Redis.More...) {
		store, err := redisstore.Open(ctx, redisstore.Options{
			URL: u, CA: c.Redis.CA, TTL: c.Redis.TTL, BlockBytes: m.blockBytes,
			Fingerprint: c.Layout.Fingerprint(), Connections: 2*redisWorkers + 1,
		})
		if err != nil {
			return err
		}
		name := store.Name()
		names = append(names, name)
		t.servers = append(t.servers, &redisServer{
			name: name, store: store, seed: xxh3.HashString(name),
			sides: [2]health{reading: m.newHealth("reading " + name), writing: m.newHealth("writing " + name)},
		})
	}
	slices.Sort(names)
	t.name = strings.Join(names, " ")
	return nil
}

func (t *redisTier) close() error {
	var errs []error
	for _, s := range t.servers {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// of is where a block has its place: rendezvous hashing.
func (t *redisTier) of(h kv.Hash) (best *redisServer) {
	if len(t.servers) == 1 {
		return t.servers[0]
	}
	var most uint64
	for _, s := range t.servers {
		var b [24]byte
		binary.LittleEndian.PutUint64(b[:], s.seed)
		copy(b[8:], h[:])
		if score := xxh3.Hash(b[:]); best == nil || score > most {
			best, most = s, score
		}
	}
	return best
}

// redisSide is one direction of all servers: a link's store.
type redisSide struct {
	tier *redisTier
	dir  direction
}

func (s redisSide) usable(now time.Time) bool {
	return slices.ContainsFunc(s.tier.servers, func(r *redisServer) bool { return r.sides[s.dir].Usable(now) })
}

func (s redisSide) up() bool {
	return slices.ContainsFunc(s.tier.servers, func(r *redisServer) bool { return r.sides[s.dir].Closed() })
}

// The methods below are called with mu held.

// redisUsable reports whether a block's server may be asked for it now.
func (m *Manager) redisUsable(h kv.Hash) bool {
	return m.redis != nil && m.redis.of(h).sides[reading].Usable(m.now())
}

// saveToRedis copies cpu -> redis.
func (m *Manager) saveToRedis(l *link, j *job) outcome {
	if m.redis.known.Has(j.block.Hash) {
		return present
	}
	if !m.offloadSource(j) {
		return dropped
	}
	s := m.redis.of(j.block.Hash)
	side := &s.sides[writing]
	if !side.Allow(m.now()) {
		return dropped
	}
	var there bool
	err := l.timed(1, func() (err error) {
		there, err = s.store.Put(m.ctx, j.block, j.src.Bytes())
		return err
	})
	if err != nil {
		side.failed(m, err)
		return failed
	}
	side.works()
	m.inRedis(j.block)
	if there {
		return present
	}
	return moved
}

// loadFromRedis copies redis -> cpu. It asks for blocks that this manager knows
// nothing of too: another worker may have stored them.
func (m *Manager) loadFromRedis(l *link, j *job) outcome {
	dst, how := m.hostSlot(l, j.flight)
	if how != moved {
		return how
	}
	b, s := j.block, m.redis.of(j.block.Hash)
	side := &s.sides[reading]
	if !side.Allow(m.now()) {
		m.cpu.abort(dst)
		return missed
	}
	err := l.timed(1, func() (err error) {
		b, err = s.store.Get(j.flight.ctx, j.block.Hash, m.cpu.mem.Slot(int(dst)))
		return err
	})
	if err == nil {
		side.works()
		m.inRedis(b)
		return m.land(j, m.cpu, dst, b)
	}
	m.cpu.abort(dst)
	switch {
	case errors.Is(err, redisstore.ErrMiss):
		side.works()
		m.tiers[kv.Redis].misses++
		m.notInRedis(j.block.Hash)
		return missed
	case errors.Is(err, redisstore.ErrCorrupt):
		side.works()
		m.corrupt(kv.Redis, j.block, err)
		m.notInRedis(j.block.Hash)
		return failed
	case j.flight.forsaken():
		side.Unknown()
		return cancelled
	}
	side.failed(m, err)
	return failed
}

// failed notes an error that is the store's, and not the end of the manager.
func (h *health) failed(m *Manager, err error) {
	if m.ctx.Err() != nil {
		h.Unknown()
		return
	}
	h.broke(err)
}

func (m *Manager) inRedis(b kv.Block) {
	added, forgotten := m.redis.known.Add(b, m.now())
	if added {
		m.stored(kv.Redis, b)
	}
	m.removed(kv.Redis, forgotten)
}

// notInRedis tells the index that a block is gone, even one this manager knew
// nothing of: whoever asked for it believed it was there.
func (m *Manager) notInRedis(h kv.Hash) {
	m.redis.known.Remove(h)
	m.removed(kv.Redis, []kv.Hash{h})
}
