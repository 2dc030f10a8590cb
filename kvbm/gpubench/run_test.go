package gpubench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/kvasir-ai/kvasir/cuda"
)

const engineEnv = "KVASIR_GPU_BENCH_ENGINE"

func TestMain(m *testing.M) {
	if socket := os.Getenv(engineEnv); socket != "" {
		if err := ServeEngine(socket, 0); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func ownEngine(socket string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), engineEnv+"="+socket)
	return c
}

// The whole bench with the engine that comes with it, or with PyTorch's kernels
// where KVASIR_TORCH names a Python that has it. Every byte that a measurement
// moved is checked by the bench; the speeds are for people to read.
func TestBenchMovesTheRightBytes(t *testing.T) {
	if _, err := cuda.Open(); errors.Is(err, cuda.ErrNoDriver) {
		t.Skipf("needs a GPU: %v", err)
	}
	engines := map[string]func(string) *exec.Cmd{"own": ownEngine}
	if python := os.Getenv("KVASIR_TORCH"); python != "" {
		engines["torch"] = func(socket string) *exec.Cmd { return exec.Command(python, "testdata/torch_engine.py", socket) }
	}
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			r, err := Run(context.Background(), Options{Engine: engine})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verified == 0 || len(r.Cases) == 0 || len(r.Latencies) == 0 {
				t.Fatalf("an empty report: %+v", r)
			}
			for _, c := range r.Cases {
				text, _ := json.Marshal(c)
				t.Logf("%s", text)
			}
			for _, l := range r.Latencies {
				text, _ := json.Marshal(l)
				t.Logf("%s", text)
			}
		})
	}
}
