package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

func openGPU(t *testing.T) *Device {
	t.Helper()
	d, err := cuda.Open()
	if err != nil {
		t.Skipf("needs a GPU: %v", err)
	}
	dev, err := Open(d, 0, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// slots are pinned host memory with random content.
func slots(t *testing.T, d *Device, n, blockBytes int) *host.Memory {
	t.Helper()
	m, err := host.Map(n, blockBytes)
	if err != nil {
		t.Fatal(err)
	}
	randomise(m)
	d.Pin(m.All(), host.Stride(blockBytes))
	return m
}

func randomise(m *host.Memory) {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	rand.NewChaCha8(seed).Read(m.All())
}

func attach(t *testing.T, d *Device, r *remote) *Engine {
	t.Helper()
	e, err := d.Attach(r.reg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Blocks of the host arrive on the pages that were named, as the engine reads
// its own memory; and pages come back to other slots.
func TestBlocksReachAnEngineAndComeBack(t *testing.T) {
	d := openGPU(t)
	ctx := context.Background()
	for _, c := range []struct {
		kind         string
		layers, page int
	}{
		{"ipc", 1, 2 << 20}, {"ipc", 32, 64 << 10}, {"ipc", 64, 32 << 10}, {"ipc", 128, 16 << 10}, {"ipc", 2, 4 << 10}, {"ipc", 3, 5 << 20},
		{"segments", 1, 2 << 20}, {"segments", 32, 64 << 10}, {"segments", 128, 16 << 10},
	} {
		t.Run(fmt.Sprintf("%s/%dx%d", c.kind, c.layers, c.page), func(t *testing.T) {
			const pages, n = 40, 16
			r := startEngine(t, engineSetup{Kind: c.kind, Layers: c.layers, Page: c.page, Pages: pages})
			if segments := c.kind == "segments"; segments != (len(r.reg.Memories[0].FDs) > 0) {
				t.Fatalf("memory of kind %s came with %d descriptors", c.kind, len(r.reg.Memories[0].FDs))
			}
			e := attach(t, d, r)
			defer e.Close()
			bytes := c.layers * c.page
			from, to := slots(t, d, n, bytes), slots(t, d, n, bytes)
			perm := rand.Perm(pages)
			var down, up []Transfer
			for i := range n {
				up = append(up, Transfer{perm[i], from.Slot(i)})
				down = append(down, Transfer{perm[i], to.Slot(n - 1 - i)})
			}
			untouched := r.ask(engineOrder{Do: "sums"}).Sums
			if err := e.Load(ctx, policy.Demand, up); err != nil {
				t.Fatal(err)
			}
			sums := r.ask(engineOrder{Do: "sums"}).Sums
			for i, page := range perm {
				switch {
				case i < n && sums[page] != xxh3.Hash(from.Slot(i)):
					t.Errorf("page %d is not block %d", page, i)
				case i >= n && sums[page] != untouched[page]:
					t.Errorf("page %d was not to be touched", page)
				}
			}
			if err := e.Save(ctx, down, 0); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if xxh3.Hash(from.Slot(i)) != xxh3.Hash(to.Slot(n-1-i)) {
					t.Errorf("block %d came back different", i)
				}
			}
		})
	}
}

func TestMemoryThatCannotBeSharedIsRefused(t *testing.T) {
	openGPU(t)
	r := startEngine(t, engineSetup{Kind: "private", Layers: 1, Page: 2 << 20, Pages: 4})
	var a engineAnswer
	if err := r.in.Decode(&a); err != nil || a.Refused == "" {
		t.Fatalf("answered %+v, %v", a, err)
	}
	t.Log(a.Refused)
}

// An engine killed in the middle of transfers: they end, its memory is free
// again at once, and the next engine is served.
func TestEngineKilledInTheMiddle(t *testing.T) {
	d := openGPU(t)
	for _, kind := range []string{"ipc", "segments"} {
		t.Run(kind, func(t *testing.T) {
			setup := engineSetup{Kind: kind, Layers: 32, Page: 64 << 10, Pages: 2048}
			mem := slots(t, d, 64, 2<<20)
			before, _, err := d.Context().MemInfo()
			if err != nil {
				t.Fatal(err)
			}
			r := startEngine(t, setup)
			e := attach(t, d, r)
			errs := make([]error, 8)
			moved := make([]int, len(errs))
			var wg sync.WaitGroup
			for w := range errs {
				wg.Go(func() {
					for errs[w] == nil {
						one := []Transfer{{rand.IntN(setup.Pages), mem.Slot(8*w + rand.IntN(8))}}
						if w%2 == 0 {
							errs[w] = e.Save(context.Background(), one, 0)
						} else {
							errs[w] = e.Load(context.Background(), policy.Prefetch, one)
						}
						moved[w]++
					}
				})
			}
			time.Sleep(200 * time.Millisecond) // some thousand transfers
			killed := time.Now()
			r.cmd.Process.Signal(unix.SIGKILL)
			ended := make(chan time.Time, 1)
			go func() {
				r.cmd.Wait()
				ended <- time.Now()
			}()
			<-e.Gone()
			gone := time.Now()
			end := <-ended
			t.Logf("the engine's end took the driver %v; let go %v later; transfers made: %v", end.Sub(killed), gone.Sub(end), moved)
			wg.Wait()
			for _, err := range errs {
				if !errors.Is(err, ErrGone) {
					t.Errorf("a transfer ended with %v", err)
				}
			}
			// What the test keeps of the dead process is not the memory.
			trial.Await(t, "the dead engine's memory is free again", func() bool {
				free, _, err := d.Context().MemInfo()
				return err == nil && free >= before-(64<<20)
			})
			t.Logf("memory free again %v after the kill", time.Since(killed))

			next := startEngine(t, setup)
			ne := attach(t, d, next)
			defer ne.Close()
			if err := ne.Load(context.Background(), policy.Demand, []Transfer{{7, mem.Slot(3)}}); err != nil {
				t.Fatal(err)
			}
			if next.ask(engineOrder{Do: "sums"}).Sums[7] != xxh3.Hash(mem.Slot(3)) {
				t.Error("the next engine got the wrong bytes")
			}
		})
	}
}

// A save that was told to wait for a step sees what the engine wrote before it.
func TestSaveWaitsForTheEnginesStep(t *testing.T) {
	d := openGPU(t)
	ctx := context.Background()
	r := startEngine(t, engineSetup{Kind: "ipc", Layers: 2, Page: 1 << 20, Pages: 4})
	e := attach(t, d, r)
	defer e.Close()
	mem := slots(t, d, 2, 2<<20)
	saved := make(chan error, 1)
	go func() { saved <- e.Save(ctx, []Transfer{{1, mem.Slot(0)}}, 5) }()
	r.ask(engineOrder{Do: "step", Step: 4})
	// A load is not held up by it.
	if err := e.Load(ctx, policy.Demand, []Transfer{{1, mem.Slot(1)}}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-saved:
		t.Fatal("saved before its step: ", err)
	default:
	}
	r.ask(engineOrder{Do: "step", Step: 5})
	if err := <-saved; err != nil {
		t.Fatal(err)
	}
	if xxh3.Hash(mem.Slot(0)) != xxh3.Hash(mem.Slot(1)) {
		t.Error("the save read before the step")
	}
	// An engine that dies without making the step does not hold the lane.
	go func() { saved <- e.Save(ctx, []Transfer{{1, mem.Slot(0)}}, 6) }()
	trial.Await(t, "the save is under way", func() bool {
		e.save.lane.mu.Lock()
		defer e.save.lane.mu.Unlock()
		return e.save.lane.inFlight > 0
	})
	r.cmd.Process.Signal(unix.SIGKILL)
	if err := <-saved; err != nil && !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	<-e.Gone()
}

// A device that is reset serves the same engines afterwards, from the same
// slots.
func TestResetDeviceServesOn(t *testing.T) {
	d := openGPU(t)
	ctx := context.Background()
	for _, kind := range []string{"ipc", "segments"} {
		t.Run(kind, func(t *testing.T) {
			r := startEngine(t, engineSetup{Kind: kind, Layers: 32, Page: 64 << 10, Pages: 64})
			e := attach(t, d, r)
			defer e.Close()
			mem := slots(t, d, 8, 2<<20)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			served := 0
			wg.Go(func() { // somebody keeps asking
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := e.Save(ctx, []Transfer{{5, mem.Slot(7)}}, 0)
					if err == nil {
						served++
					} else if !errors.Is(err, ErrReset) {
						t.Errorf("a transfer around a reset: %v", err)
						return
					}
				}
			})
			for range 3 {
				began := time.Now()
				if err := d.Reset(); err != nil {
					t.Fatal(err)
				}
				t.Logf("reset in %v", time.Since(began))
				randomise(mem)
				if err := e.Load(ctx, policy.Demand, []Transfer{{2, mem.Slot(1)}, {3, mem.Slot(2)}}); err != nil {
					t.Fatal(err)
				}
				sums := r.ask(engineOrder{Do: "sums"}).Sums
				if sums[2] != xxh3.Hash(mem.Slot(1)) || sums[3] != xxh3.Hash(mem.Slot(2)) {
					t.Error("wrong bytes after the reset")
				}
			}
			close(stop)
			wg.Wait()
			t.Logf("%d transfers beside the resets", served)
		})
	}
}

const trap = `
.version 7.8
.target sm_80
.address_size 64
.visible .entry fault()
{
	trap;
}
`

// A fault in the agent's own context loses the GPU to the process: transfers
// fail and say so, and the process lives. It happens in a process of its own,
// because nothing else could be tested after it.
func TestFaultLosesTheGPU(t *testing.T) {
	if os.Getenv("KVASIR_GPU_TEST_FAULT") == "" {
		openGPU(t) // or skip
		c := exec.Command(os.Args[0], "-test.run", "^TestFaultLosesTheGPU$", "-test.v")
		c.Env = append(os.Environ(), "KVASIR_GPU_TEST_FAULT=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	d := openGPU(t)
	ctx := context.Background()
	r := startEngine(t, engineSetup{Kind: "ipc", Layers: 1, Page: 2 << 20, Pages: 4})
	e := attach(t, d, r)
	mem := slots(t, d, 2, 2<<20)
	if err := e.Load(ctx, policy.Demand, []Transfer{{1, mem.Slot(0)}}); err != nil {
		t.Fatal(err)
	}
	fault(t, d.Context())
	for range 3 {
		if err := e.Load(ctx, policy.Demand, []Transfer{{1, mem.Slot(0)}}); !errors.Is(err, ErrLost) {
			t.Fatalf("a load after the fault: %v", err)
		}
	}
	if _, err := d.Attach(r.reg); !errors.Is(err, ErrLost) {
		t.Errorf("attached after the fault: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	// The engine is not touched by it.
	if r.ask(engineOrder{Do: "sums"}).Sums[1] != xxh3.Hash(mem.Slot(0)) {
		t.Error("the engine lost its page")
	}
}

func fault(t *testing.T, c *cuda.Context) {
	t.Helper()
	m, err := c.LoadPTX(trap)
	if err != nil {
		t.Fatal(err)
	}
	k, err := m.Kernel("fault")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Launch(s, 1, 1), s.Sync()); !cuda.Lost(err) {
		t.Fatalf("a trap gave %v", err)
	}
}
