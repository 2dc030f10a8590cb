package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// scenarios are what a conversation comes back from, and what it must not come
// back from.
func (s *tiered) scenarios(t *testing.T) {
	t.Run("cpu", s.comesBackFromCPU)
	t.Run("many", s.manyAtOnce)
	t.Run("agent killed", s.agentKilledUnderLoad)
	t.Run("disk", s.comesBackFromDisk)
	t.Run("damaged on disk", s.damagedOnDiskIsComputed)
	t.Run("redis", s.comesBackFromRedis)
	t.Run("damaged in redis", s.damagedInRedisIsComputed)
	s.restartAgent(inMemory, s.onDisk())
}

func (s *tiered) comesBackFromCPU(t *testing.T) {
	st := s.tell(t, "the reset", "disk") // by way of the cpu tier
	s.forget(t, st)
	s.through(t, st, "cpu")
	s.forget(t, st)
	s.back(t, st)
}

// Once as the engine asks for it, and once as the router has it staged.
func (s *tiered) comesBackFromDisk(t *testing.T) {
	st := s.tell(t, "the agent's restart", "disk")
	s.restartAgent(inMemory, s.onDisk())
	s.forget(t, st)
	s.back(t, st)
	s.restartAgent(inMemory, s.onDisk())
	s.forget(t, st)
	s.through(t, st, "disk")
}

func (s *tiered) comesBackFromRedis(t *testing.T) {
	s.restartAgent(inMemory, s.inRedis())
	st := s.tell(t, "the shared store", "redis")
	s.restartAgent(inMemory, s.inRedis())
	s.forget(t, st)
	s.back(t, st)
	s.restartAgent(inMemory, s.inRedis())
	s.forget(t, st)
	s.through(t, st, "redis")
}

func (s *tiered) damagedOnDiskIsComputed(t *testing.T) {
	st := s.tell(t, "the damage", "disk")
	s.agent.stop()
	slabs, _ := filepath.Glob(filepath.Join(s.dir, s.id, "*"))
	damaged := 0
	for _, name := range slabs {
		damaged += damageSlab(t, name)
	}
	if damaged == 0 {
		t.Fatalf("no slab in %v", slabs)
	}
	s.startAgent(inMemory, s.onDisk())
	s.computes(t, st)
}

func (s *tiered) damagedInRedisIsComputed(t *testing.T) {
	st := s.tell(t, "the shared damage", "redis")
	s.agent.stop()
	if damageRedis(t, s.redis) == 0 {
		t.Fatal("Redis has no blocks")
	}
	s.startAgent(inMemory, s.inRedis())
	s.computes(t, st)
}

// computes asks for a conversation of which every block is damaged: none is
// used. The agent was started anew.
func (s *tiered) computes(t *testing.T, st story) {
	t.Helper()
	s.awaitPlugin()
	s.forget(t, st)
	again, err := s.e.complete(st.body)
	if err != nil {
		t.Fatal(err)
	}
	s.agent.waitLine("a stored block is not what was written")
	if again.cached != 0 || again.text != st.cold.text {
		t.Errorf("%d tokens of damaged blocks were used; %q, cold it was %q", again.cached, again.text, st.cold.text)
	}
}

// damageSlab changes a bit in each 4 KiB of a file that is as long as a slab is.
func damageSlab(t *testing.T, name string) (changed int) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() < 128<<20 {
		return 0
	}
	b := make([]byte, 1)
	for at := int64(1 << 20); at < info.Size(); at += 4096 {
		if _, err := file.ReadAt(b, at+7); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := file.WriteAt(b, at+7); err != nil {
			t.Fatal(err)
		}
		changed++
	}
	return changed
}

// damageRedis changes a bit in the middle of each value that is as long as a
// block is.
func damageRedis(t *testing.T, port int) (changed int) {
	t.Helper()
	r := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	defer r.Close()
	keys := r.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		value, err := r.Get(t.Context(), keys.Val()).Bytes()
		if err != nil || len(value) < 32<<10 {
			continue
		}
		middle := int64(len(value) / 2)
		if err := r.SetRange(t.Context(), keys.Val(), middle, string([]byte{value[middle] ^ 1})).Err(); err != nil {
			t.Fatal(err)
		}
		changed++
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return changed
}

// manyAtOnce: KVASIR_CONVERSATIONS sets another number than 60.
func (s *tiered) manyAtOnce(t *testing.T) {
	k := s.talk(t, trial.Rand(t), trial.Size(t, "KVASIR_CONVERSATIONS", 60), 3, func(done int) {
		// Running requests are preempted and start over. vLLM's own offloading ends
		// the engine then if one of them is loading blocks.
		if done%25 == 0 && !s.region {
			r, err := http.Post(s.e.url()+"/reset_prefix_cache?reset_running_requests=true", "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Body.Close()
		}
	})
	if k.cached == 0 {
		t.Error("nothing was cached: this tests nothing")
	}
	k.verify(t, s)
}

// The agent dies in the middle, comes back and dies again: the requests go on.
func (s *tiered) agentKilledUnderLoad(t *testing.T) {
	k := s.talk(t, trial.Rand(t), 40, 3, func(done int) {
		switch done {
		case 30, 80:
			s.agent.kill()
		case 50, 100:
			s.startAgent(inMemory, s.onDisk())
		}
	})
	k.verify(t, s)
	s.awaitPlugin()
	if err := statusOK(s.e.url() + "/health"); err != nil {
		t.Error(err)
	}
}
