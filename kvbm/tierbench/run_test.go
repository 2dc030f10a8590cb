package tierbench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// TestMain is also the second process of the peer's bench.
func TestMain(m *testing.M) {
	if os.Getenv("KVASIR_TEST_HOLDER") != "" {
		if err := Hold(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func holder() *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "KVASIR_TEST_HOLDER=1")
	return c
}

func TestAllTiersAreMeasured(t *testing.T) {
	srv := redistest.Start(t)
	dir := t.TempDir()
	r, err := Run(t.Context(), Options{Dir: dir, RedisURL: srv.URL(), Holder: holder, BlockBytes: 20000, Bytes: 1 << 20, Rounds: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []kv.Tier{kv.CPU, kv.Disk, kv.Redis} {
		got := r.Tiers[i]
		if got.Tier != want || got.Read <= 0 || got.Write <= 0 || got.LimitRead <= 0 || got.LimitWrite <= 0 ||
			got.RatioRead <= 0 || got.RatioWrite <= 0 || got.CPURead < 0 || got.CPUWrite < 0 ||
			got.Load.N == 0 || got.LoadBeside.N == 0 || got.LimitLoad.P50 > got.LimitLoad.P99 || got.LimitStore.Max <= 0 {
			t.Errorf("%+v", got)
		}
	}
	if p := r.Tiers[3]; p.Tier != kv.Peer || p.Read <= 0 || p.LimitRead <= 0 || p.RatioRead <= 0 || p.Load.N == 0 || p.LimitLoad.N == 0 {
		t.Errorf("%+v", p)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
}

// BenchmarkTiers prints the report; `-benchtime 1x` is enough. KVASIR_BENCH_DIR
// picks the disk and KVASIR_BENCH_BLOCK the block's bytes.
func BenchmarkTiers(b *testing.B) {
	srv := redistest.Start(b)
	dir := os.Getenv("KVASIR_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	block, _ := strconv.Atoi(os.Getenv("KVASIR_BENCH_BLOCK"))
	for b.Loop() {
		r, err := Run(b.Context(), Options{Dir: dir, RedisURL: srv.URL(), Holder: holder, BlockBytes: block})
		if err != nil {
			b.Fatal(err)
		}
		out, _ := json.MarshalIndent(r, "", "  ")
		b.Logf("%s", out)
		for _, t := range r.Tiers {
			b.ReportMetric(t.RatioRead, t.Tier.String()+"-read-ratio")
			b.ReportMetric(t.RatioWrite, t.Tier.String()+"-write-ratio")
		}
	}
}
