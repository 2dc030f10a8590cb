package workers

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Stats is the latest that a worker said about itself.
type Stats struct {
	At time.Time // when it came; zero: never

	Running             int     // requests in the engine's batch
	Waiting             int     // requests queued in the engine
	KVUsage             float64 // share of the engine's KV pages in use, 0..1; < 0: unknown
	QueuedPrefillTokens int     // prompt tokens not yet computed; < 0: unknown
	GPUBlocks           int     // the engine's KV pages, in blocks; 0: unknown
	CacheQueries        uint64  // prompt tokens looked up in the prefix cache, since the engine's start
	CacheHits           uint64  // of them found

	Tiers       [kv.NumTiers]TierStats // of the agent's block manager
	Links       [kv.NumTiers]LinkStats // from that tier up towards the gpu
	BlockBytes  int                    // 0: unknown
	SharedStore string
}

// TierStats is one tier of a worker's block manager.
type TierStats struct {
	// Free + Filling + Committed + Evicting = Capacity; Leased are of the committed.
	Capacity, Free, Filling, Committed, Evicting, Leased int // blocks
	Hits, Misses                                         uint64
	Stored, Evicted, Corrupt                             uint64
}

// LinkStats is how fast blocks come up from a tier.
type LinkStats struct {
	Up             bool
	BytesPerSecond float64 // measured; 0: not yet
	Latency        time.Duration
	QueuedBytes    int64
	Blocks, Bytes  uint64
	Errors         uint64
	Dropped        uint64
}

// OnboardResult says what became of a restore plan.
type OnboardResult struct {
	Blocks      [kv.NumTiers]int // restored from each tier; GPU: were there already
	Missed      int              // to be recomputed after all
	Bytes       int64
	Elapsed     time.Duration
	LinkElapsed [kv.NumTiers]time.Duration
}
