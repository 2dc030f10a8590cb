package prefixindex

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

func randomChain(rng *rand.Rand, n int) []kv.Hash {
	out := make([]kv.Hash, n)
	for i := range out {
		out[i] = hash{rng.Uint64(), rng.Uint64()}.bytes()
	}
	return out
}

// cpu is the processor time this process has used: on a shared machine it says
// more than the wall clock.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApply stores and removes prompts of given lengths in an index of a
// million blocks.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 16, 100, 500} {
		b.Run(fmt.Sprintf("blocks=%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			x := New(Options{})
			x.AddWorker("w", "")
			root := randomChain(rng, 1)[0]
			var chains [][]kv.Hash
			for len(chains)*n < 1<<20 {
				chains = append(chains, randomChain(rng, n))
			}
			for _, c := range chains {
				x.Apply("w", kv.Event{Kind: kv.Stored, Parent: root, Hashes: c})
			}
			b.ResetTimer()
			i := 0
			ops := 0
			start := cpu()
			for b.Loop() {
				c := chains[i%len(chains)]
				x.Apply("w", kv.Event{Kind: kv.Removed, Hashes: c})
				x.Apply("w", kv.Event{Kind: kv.Stored, Parent: root, Hashes: c})
				i += 7919
				ops += 2 * n
			}
			b.ReportMetric(float64(cpu()-start)/float64(ops), "cpu-ns/block")
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{512, 6000} {
		b.Run(fmt.Sprintf("blocks=%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			x := New(Options{})
			root := randomChain(rng, 1)[0]
			var chains [][]kv.Hash
			for i := 0; i*n < 1<<20; i++ {
				id := kv.WorkerID(fmt.Sprint("w", i%8))
				x.AddWorker(id, "")
				c := randomChain(rng, n)
				chains = append(chains, c)
				x.Apply(id, kv.Event{Kind: kv.Stored, Parent: root, Hashes: c})
			}
			m := &Matches{}
			i := 0
			b.ReportAllocs()
			start, n := cpu(), 0
			for b.Loop() {
				x.Match(m, chains[i%len(chains)])
				i += 7919
				n++
			}
			b.ReportMetric(float64(cpu()-start)/float64(n), "cpu-ns/op")
		})
	}
}

// BenchmarkMemory reports bytes a membership when nothing is shared.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{20, 50, 100, 500} {
		b.Run(fmt.Sprintf("blocks=%d", n), func(b *testing.B) {
			for b.Loop() {
				rng := rand.New(rand.NewPCG(1, 2))
				x := New(Options{})
				x.AddWorker("w", "")
				root := randomChain(rng, 1)[0]
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				for i := 0; i < 4<<20; i += n {
					x.Apply("w", kv.Event{Kind: kv.Stored, Parent: root, Hashes: randomChain(rng, n)})
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				s := x.Stats()
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(s.Memberships), "heapB/membership")
				b.ReportMetric(float64(s.Bytes)/float64(s.Memberships), "B/membership")
				runtime.KeepAlive(x)
			}
		})
	}
}
