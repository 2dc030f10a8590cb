package kvbm

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// shared opens a manager over Redis servers.
func shared(t *testing.T, servers []*redistest.Server, change func(*Config)) *Manager {
	t.Helper()
	c := testConfig()
	c.GPUBlocks, c.CPUBytes = 16, 20*testStride
	c.Redis.URL = servers[0].URL()
	for _, s := range servers[1:] {
		c.Redis.More = append(c.Redis.More, s.URL())
	}
	if change != nil {
		change(&c)
	}
	return open(t, c)
}

func plain(t *testing.T, s *redistest.Server) *redis.Client {
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func inRedis(m *Manager) int { return m.Stats().Tiers[kv.Redis].Committed }

// fillRedis computes prompts until nothing moves any more.
func fillRedis(t *testing.T, m *Manager, prompts int) (all []kv.Block) {
	for id := range prompts {
		bs := prompt(id, 8)
		compute(t, m, bs)
		settle(t, m)
		all = append(all, bs...)
	}
	return all
}

// All workers end, and with them all that was known. One that starts finds out
// what is in Redis by itself, and says so in its events.
func TestWhatIsInRedisIsFoundAfterARestart(t *testing.T) {
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	first := shared(t, servers, nil)
	all := fillRedis(t, first, 10)
	if n := inRedis(first); n != len(all) {
		t.Fatalf("%d of %d blocks are in Redis", n, len(all))
	}
	for i, s := range servers {
		if n := plain(t, s).DBSize(t.Context()).Val(); n < int64(len(all)/2) || n == int64(2*len(all)) {
			t.Fatalf("server %d has %d keys for its share of %d blocks", i, n, len(all))
		}
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := shared(t, servers, func(c *Config) { c.Layout.Model = "other" })
	m := shared(t, servers, nil)
	mi := watch(t, m)
	trial.Await(t, "all is found", func() bool { return inRedis(m) == len(all) })
	mi.agree(t, m, all)
	for id := range 10 {
		if r := onboard(t, m, all[8*id:8*id+8]); r.Blocks[kv.Redis] != 8 {
			t.Fatalf("%+v", r)
		}
	}
	settle(t, m)
	if n := inRedis(other); n != 0 {
		t.Fatalf("%d blocks of another layout were found", n)
	}
}

// What Redis let go is noticed without a request that would miss it.
func TestWhatRedisLostIsNoticed(t *testing.T) {
	srv := redistest.Start(t)
	m := shared(t, []*redistest.Server{srv}, nil)
	mi := watch(t, m)
	all := fillRedis(t, m, 6)
	c := plain(t, srv)
	c.Del(t.Context(), keyOf(m, all[3].Hash))
	trial.Await(t, "one is gone", func() bool { return inRedis(m) == len(all)-1 })
	c.PExpire(t.Context(), keyOf(m, all[4].Hash), time.Millisecond)
	trial.Await(t, "another has run out", func() bool { return inRedis(m) == len(all)-2 })
	c.FlushAll(t.Context())
	trial.Await(t, "all is gone", func() bool { return inRedis(m) == 0 })
	mi.agree(t, m, all)
}

func keyOf(m *Manager, h kv.Hash) string {
	return fmt.Sprintf("kvasir:%s:{%s}", testConfig().Layout.Fingerprint(), h)
}

// Of two servers one dies: its blocks are misses, those of the other are served,
// and traffic goes on; it comes back empty, and takes blocks again.
func TestOneRedisOfTwoDies(t *testing.T) {
	clock := newClock()
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	m := shared(t, servers, func(c *Config) { c.Now = clock.now })
	all := fillRedis(t, m, 10)
	mine := map[*redisServer]int{}
	for _, b := range all {
		mine[m.redis.of(b.Hash)]++
	}
	dead, alive := m.redis.servers[0], m.redis.servers[1]
	if mine[dead] < len(all)/5 || mine[alive] < len(all)/5 {
		t.Fatalf("shares of %d and %d", mine[dead], mine[alive])
	}
	servers[0].Kill()
	served := 0
	for _, b := range all {
		if m.redis.of(b.Hash) == alive {
			served += onboard(t, m, []kv.Block{b}).Missed ^ 1
		} else {
			onboard(t, m, []kv.Block{b})
		}
	}
	if served != mine[alive] {
		t.Fatalf("%d of the living server's %d blocks were served", served, mine[alive])
	}
	more := prompt(50, 8)
	compute(t, m, more)
	settle(t, m)
	if l := linkStats(t, m, kv.CPU, kv.Redis); !l.Up || dead.sides[reading].opened == 0 {
		t.Fatalf("%+v, alarms %d", l, dead.sides[reading].opened)
	}
	servers[0].Run()
	clock.advance(time.Minute)
	trial.Await(t, "the server takes blocks again", func() bool {
		compute(t, m, prompt(int(nextID.Add(1)), 8))
		settle(t, m)
		return plain(t, servers[0]).DBSize(t.Context()).Val() > 0
	})
}

var nextID atomic.Int64

func init() { nextID.Store(1000) }

// A full Redis refuses blocks; that is counted and the writing side rests, and
// what it has is still served. When it has room again it takes what it missed.
func TestAFullRedisIsStillRead(t *testing.T) {
	clock := newClock()
	srv := redistest.Start(t)
	c := plain(t, srv)
	m := shared(t, []*redistest.Server{srv}, func(c *Config) { c.Now, c.CPUBytes = clock.now, 60*testStride })
	kept := prompt(1, 8)
	compute(t, m, kept)
	settle(t, m)
	c.ConfigSet(t.Context(), "maxmemory-policy", "noeviction")
	c.ConfigSet(t.Context(), "maxmemory", "1mb")
	for id := range 5 {
		compute(t, m, prompt(10+id, 8))
		settle(t, m)
	}
	s := m.redis.servers[0]
	if l := linkStats(t, m, kv.CPU, kv.Redis); l.Up || l.Errors < 3 || l.Dropped == 0 || s.sides[writing].opened == 0 {
		t.Fatalf("%+v", l)
	}
	for range 8 { // push the first prompt out of cpu
		compute(t, m, prompt(int(nextID.Add(1)), 8))
		settle(t, m)
	}
	if r := onboard(t, m, kept); r.Blocks[kv.Redis] != 8 {
		t.Fatalf("a full Redis does not serve: %+v", r)
	}
	c.ConfigSet(t.Context(), "maxmemory", "0")
	clock.advance(time.Minute)
	trial.Await(t, "what is in cpu is in Redis", func() bool { return inRedis(m) > 40 })
}

// Redis accepts connections and answers nothing: misses within the deadline, the
// tier rests, and joins again by itself.
func TestAHalfOpenRedis(t *testing.T) {
	clock := newClock()
	srv := redistest.Start(t)
	m := shared(t, []*redistest.Server{srv}, func(c *Config) { c.Now = clock.now })
	all := fillRedis(t, m, 10)
	resume := srv.Stall()
	for i := range 4 {
		if r := onboard(t, m, all[8*i:8*i+1]); r.Missed != 1 {
			t.Fatalf("%+v", r)
		}
	}
	if l := linkStats(t, m, kv.Redis, kv.CPU); l.Up || l.Errors < 3 {
		t.Fatalf("%+v", l)
	}
	resume()
	clock.advance(time.Minute)
	trial.Await(t, "it is read again", func() bool {
		clock.advance(time.Second)
		return onboard(t, m, all[:8]).Blocks[kv.Redis] > 0
	})
}
