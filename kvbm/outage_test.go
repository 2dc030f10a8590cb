package kvbm

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// failing is a disk whose calls fail with what is set, by direction.
type failing struct {
	diskStore
	errs [2]atomic.Value // of errno
}

type errno struct{ error }

func (f *failing) set(dir direction, err error) { f.errs[dir].Store(errno{err}) }

func (f *failing) err(dir direction) error {
	if e, ok := f.errs[dir].Load().(errno); ok {
		return e.error
	}
	return nil
}

func (f *failing) Write(s policy.Slot, b kv.Block, data []byte) error {
	if err := f.err(writing); err != nil {
		return err
	}
	return f.diskStore.Write(s, b, data)
}

func (f *failing) Tombstone(s policy.Slot) error {
	if err := f.err(writing); err != nil {
		return err
	}
	return f.diskStore.Tombstone(s)
}

func (f *failing) Read(s policy.Slot, dst []byte) error {
	if err := f.err(reading); err != nil {
		return err
	}
	return f.diskStore.Read(s, dst)
}

// onFailing opens a manager with a cpu tier over a disk that can fail.
func onFailing(t *testing.T, clock *clock, slots int) (*Manager, *failing) {
	t.Helper()
	c := testConfig()
	c.GPUBlocks, c.CPUBytes, c.Now = 4, 40*testStride, clock.now
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + int64(slots)*testStride}
	m := open(t, c)
	f := &failing{}
	wrapDisk(m, func(s diskStore) diskStore { f.diskStore = s; return f })
	return m, f
}

// What was computed while the disk was away is on it after it came back, with no
// request that would offer it again.
func TestBlocksOfAnOutageAreOfferedWhenItEnds(t *testing.T) {
	clock := newClock()
	m, disk := onFailing(t, clock, 50)
	disk.set(writing, unix.EIO)
	var all []kv.Block
	for id := range 6 {
		bs := prompt(id, 4)
		compute(t, m, bs)
		settle(t, m)
		all = append(all, bs...)
	}
	if l := linkStats(t, m, kv.CPU, kv.Disk); l.Up || l.Blocks != 0 {
		t.Fatalf("%+v", l)
	}
	disk.set(writing, nil)
	clock.advance(time.Minute)
	trial.Await(t, "every block is on disk", func() bool { return m.Stats().Tiers[kv.Disk].Committed == len(all) })
	settle(t, m)
	if l := linkStats(t, m, kv.CPU, kv.Disk); !l.Up {
		t.Fatalf("%+v", l)
	}
}

// A disk that became read-only still serves what it has, while what would go to
// it is dropped and counted.
func TestAReadOnlyDiskIsStillRead(t *testing.T) {
	clock := newClock()
	m, disk := onFailing(t, clock, 50)
	kept := prompt(1, 4)
	compute(t, m, kept)
	settle(t, m)
	disk.set(writing, unix.EROFS)
	for id := range 12 { // pushes the first prompt out of cpu, too
		compute(t, m, prompt(10+id, 4))
		settle(t, m)
	}
	if l := linkStats(t, m, kv.CPU, kv.Disk); l.Up || l.Errors < 3 || l.Dropped == 0 {
		t.Fatalf("%+v", l)
	}
	if l := linkStats(t, m, kv.Disk, kv.CPU); !l.Up {
		t.Fatalf("%+v", l)
	}
	if r := onboard(t, m, kept); r.Blocks[kv.Disk] != 4 {
		t.Fatalf("%+v", r)
	}
	if d := m.Stats().Devices[0]; d.Readable != true || d.Writable || d.Alarms != 1 {
		t.Fatalf("%+v", d)
	}
}

// Bad sectors: the blocks on them are misses, counted, and after a few the disk
// is not asked any more until it has rested.
func TestADiskWithReadErrorsIsAMiss(t *testing.T) {
	clock := newClock()
	m, disk := onFailing(t, clock, 90)
	var early [][]kv.Block
	for id := range 16 {
		bs := prompt(id, 4)
		early = append(early, bs)
		compute(t, m, bs)
		settle(t, m)
	}
	disk.set(reading, unix.EIO)
	for _, bs := range early[:4] {
		if r := onboard(t, m, bs); r.Missed != 4 {
			t.Fatalf("%+v", r)
		}
		compute(t, m, bs) // traffic goes on
		settle(t, m)
	}
	l := linkStats(t, m, kv.Disk, kv.CPU)
	if l.Up || l.Errors < 3 {
		t.Fatalf("%+v", l)
	}
	disk.set(reading, nil)
	clock.advance(time.Minute)
	onboard(t, m, early[8][:1]) // one load tries it, alone
	if r := onboard(t, m, early[5]); r.Missed != 0 || r.Blocks[kv.Disk] == 0 {
		t.Fatalf("%+v", r)
	}
	if l := linkStats(t, m, kv.Disk, kv.CPU); !l.Up {
		t.Fatalf("%+v", l)
	}
}

// smallDisk mounts a tmpfs of the given size, or skips.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("a file system of a given size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// A real file system that is smaller than the slab, and fuller still for a
// while: what fits is kept and served, what does not is dropped and counted, and
// when room comes the tier takes it by itself.
func TestARealDiskFillsUp(t *testing.T) {
	clock := newClock()
	dir := smallDisk(t, 40*testStride)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20*testStride), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig()
	c.GPUBlocks, c.CPUBytes, c.Now = 4, 60*testStride, clock.now
	c.Disk = DiskConfig{Paths: []string{filepath.Join(dir, "kv")}, Bytes: 4096 + 30*testStride}
	m := open(t, c)
	mi := watch(t, m)
	var all []kv.Block
	for id := range 7 {
		bs := prompt(id, 4)
		all = append(all, bs...)
		compute(t, m, bs)
		settle(t, m)
	}
	l := linkStats(t, m, kv.CPU, kv.Disk)
	if l.Up || l.Blocks == 0 || l.Errors < 3 || l.Offered < 28 || l.Blocks+l.Errors+l.Dropped != l.Offered { // some may be offered again
		t.Fatalf("%+v", l)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	trial.Await(t, "every block is on disk", func() bool { return m.Stats().Tiers[kv.Disk].Committed == len(all) })
	settle(t, m)
	mi.agree(t, m, all)
	for at := 0; at < len(all); at += 4 {
		if r := onboard(t, m, all[at:at+4]); r.Missed != 0 {
			t.Fatalf("%+v", r)
		}
	}
}

// A disk that is read-only from the start does not keep the worker from
// starting, and joins when it can be written.
func TestADiskThatCannotBeOpenedJoinsLater(t *testing.T) {
	clock := newClock()
	dir := smallDisk(t, 400*testStride)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c := testConfig()
	c.GPUBlocks, c.CPUBytes, c.Now = 4, 60*testStride, clock.now
	c.Disk = DiskConfig{Paths: []string{filepath.Join(dir, "kv")}, Bytes: 4096 + 30*testStride}
	m := open(t, c)
	bs := prompt(1, 4)
	compute(t, m, bs)
	settle(t, m)
	if d := m.Stats().Devices[0]; d.Writable || d.Readable || d.Alarms != 1 {
		t.Fatalf("%+v", d)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	trial.Await(t, "the blocks are on disk", func() bool { return m.Stats().Tiers[kv.Disk].Committed == 4 })
	if d := m.Stats().Devices[0]; !d.Writable || !d.Readable {
		t.Fatalf("%+v", d)
	}
}

// One of two disks breaks: the other one takes what comes, and what is on it is
// served; after its return both are used.
func TestOneDiskOfTwoBreaks(t *testing.T) {
	clock := newClock()
	c := testConfig()
	c.GPUBlocks, c.CPUBytes, c.Now = 4, 8*testStride, clock.now
	c.Disk = DiskConfig{Paths: []string{t.TempDir(), t.TempDir()}, Bytes: 4096 + 20*testStride}
	m := open(t, c)
	f := &failing{}
	wrapDisk(m, func(s diskStore) diskStore { f.diskStore = s; return f })
	run := func(from, to int) {
		for id := from; id < to; id++ {
			compute(t, m, prompt(id, 4))
			settle(t, m)
		}
	}
	run(0, 5)
	used := func(i int) uint64 { return m.Stats().Devices[i].Written }
	if used(0) != 10*testBlock || used(1) != 10*testBlock {
		t.Fatalf("%d and %d bytes were written; want them shared out evenly", used(0), used(1))
	}
	f.set(writing, unix.EIO)
	f.set(reading, unix.EIO)
	run(5, 15)
	if d := m.Stats().Devices[0]; d.Writable {
		t.Fatalf("%+v", d)
	}
	if used(0) != 10*testBlock || used(1) < 30*testBlock {
		t.Fatalf("%d and %d bytes were written; want the second to go on", used(0), used(1))
	}
	f.set(writing, nil)
	f.set(reading, nil)
	clock.advance(time.Minute)
	run(15, 30)
	if used(0) <= 10*testBlock {
		t.Fatal("the first disk came back and was not used")
	}
	check(t, m)
}
