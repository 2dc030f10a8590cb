// Package trial is what tests share: random numbers that a failure can be run
// again with, sizes that a run by hand can raise, and waiting for what must come.
// Only tests import it.
package trial

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is KVASIR_SEED, or a fresh one. It is logged, so a failing test shows it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return seed
}

// Rand is a generator from Seed.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 0))
}

// Size is the environment's number of that name, or n: how much a test does.
func Size(t testing.TB, name string, n int) int {
	t.Helper()
	if s := os.Getenv(name); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return n
}

// patience is long: a machine with other work delays everything, and a test that
// passes does not wait.
const patience = 30 * time.Second

// Await waits until ok, or fails the test, which then shows state, if given.
func Await(t testing.TB, what string, ok func() bool, state ...func() any) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			for _, s := range state {
				t.Logf("%+v", s())
			}
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// Receive is what must come on a channel.
func Receive[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("nothing came within %v", patience)
	}
	return v
}
