package kvbm

import (
	"sync/atomic"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// turnstile is a disk whose calls wait until they are let through, one by one.
type turnstile struct {
	diskStore
	began [2]atomic.Int64 // by direction
	pass  [2]chan struct{}
}

func (d *turnstile) through(dir direction) {
	d.began[dir].Add(1)
	<-d.pass[dir]
}

func (d *turnstile) Write(s policy.Slot, b kv.Block, data []byte) error {
	d.through(writing)
	return d.diskStore.Write(s, b, data)
}

func (d *turnstile) Read(s policy.Slot, dst []byte) error {
	d.through(reading)
	return d.diskStore.Read(s, dst)
}

// A demand load waits for no more than the offloads that were under way when it
// came: as long as loads wait, none begins, and beside loads that run, one.
func TestOffloadsYieldToDemandLoads(t *testing.T) {
	bs := prompt(1, 16)
	m, g := onDisk(t, func(c *Config) { c.CPUBytes = 100 * testStride }, bs)
	close(g.passed)
	d := &turnstile{diskStore: g.diskStore}
	d.pass[reading], d.pass[writing] = make(chan struct{}), make(chan struct{})
	wrapDisk(m, func(diskStore) diskStore { return d })
	began := func(dir direction, n int64) {
		t.Helper()
		trial.Await(t, "the calls have begun", func() bool { return d.began[dir].Load() == n })
	}
	queued := func(from, to kv.Tier, n int) {
		t.Helper()
		trial.Await(t, "the jobs are queued", func() bool { return linkStats(t, m, from, to).Queued == n })
	}

	compute(t, m, prompt(2, 12)) // offloads: four run, eight wait
	began(writing, diskWorkers)
	queued(kv.CPU, kv.Disk, 12)
	o := m.Onboard(t.Context(), OnboardRequest{Blocks: bs[:diskWorkers+2]}) // demand: four run, two wait
	began(reading, diskWorkers)
	queued(kv.Disk, kv.CPU, diskWorkers+2)

	for range diskWorkers {
		d.pass[writing] <- struct{}{}
	}
	queued(kv.CPU, kv.Disk, 8) // the four are done, and none has taken their place:
	if n := d.began[writing].Load(); n != diskWorkers {
		t.Fatalf("%d offloads began while demand loads waited", n-diskWorkers)
	}
	d.pass[reading] <- struct{}{}
	d.pass[reading] <- struct{}{}
	began(reading, diskWorkers+2) // now none waits and four run:
	began(writing, diskWorkers+1)
	m.mu.Lock()
	beside := m.link(kv.CPU, kv.Disk).running[policy.Offload]
	m.mu.Unlock()
	if beside != 1 {
		t.Fatalf("%d offloads run beside demand loads, want one", beside)
	}
	close(d.pass[reading])
	close(d.pass[writing])
	if r := o.Result(); r.Missed != 0 {
		t.Fatalf("%+v", r)
	}
	o.Release()
	settle(t, m)
}
