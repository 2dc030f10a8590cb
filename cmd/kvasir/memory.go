package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// leastHeap is up to which size a gateway's heap may grow before it is collected:
	// small requests cost little garbage, and a collection as much as many of them.
	leastHeap = 80 << 20
	// leastGrowth is by how much, in percent, a larger one grows between collections.
	// Most of it is tables (the index, what engines call their blocks), so memory is
	// the better thing to spare: over a soak of 20,000 requests a gateway took 133 MiB
	// with 35 and 172 MiB with 60.
	leastGrowth = 30
)

// spareMemory gives back what loading left, which is as much as a vocabulary takes,
// and keeps the heap near what lives in it until ctx ends. GOGC overrides it.
func spareMemory(ctx context.Context) {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for set := 0; ; {
		metrics.Read(live)
		if want := growth(int(live[0].Value.Uint64())); want < set*9/10 || want > set*11/10 {
			debug.SetGCPercent(want)
			set = want
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// growth is the percentage by which a heap of so many live bytes may grow.
func growth(live int) int {
	return max(leastGrowth, min(1000, 100*(leastHeap-live)/max(live, 1)))
}
