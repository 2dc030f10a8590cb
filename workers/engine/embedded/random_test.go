package embedded

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// seeded is a generator whose seed is printed and can be given in KVASIR_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("KVASIR_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
