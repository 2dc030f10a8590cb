package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	victimDir  = "KVASIR_TEST_VICTIM_DIR"
	victimSeed = "KVASIR_TEST_VICTIM_SEED"
	victimRuns = 6 // lives of one folder
	crashSlots = 5
)

// killer is a file that ends its process by SIGKILL before, within or after its
// n-th write or sync.
type killer struct {
	file
	r    *rand.Rand
	left *int
}

func (k killer) die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it takes effect at once, but not necessarily in this thread
}

func (k killer) WriteAt(b []byte, off int64) (int, error) {
	if *k.left--; *k.left > 0 {
		return k.file.WriteAt(b, off)
	}
	switch k.r.IntN(3) {
	case 0: // part of it, in units of what the file takes
		unit := 1
		if len(b)%host.Align == 0 {
			unit = host.Align
		}
		if n := k.r.IntN(len(b)/unit) * unit; n > 0 {
			_, _ = k.file.WriteAt(b[:n], off)
		}
	case 1:
		_, _ = k.file.WriteAt(b, off)
	}
	k.die()
	return 0, nil
}

func (k killer) Sync() error {
	if *k.left--; *k.left == 0 {
		k.die()
	}
	return k.file.Sync()
}

// victim is the process that is killed: it opens the folder, writes and buries
// blocks as its seed says, and tells each one before and after.
func victim(dir string, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	left := 1 + r.IntN(60)
	o := options(dir, crashSlots)
	o.wrap = func(_ string, f *os.File) file { return killer{osFile{f}, r, &left} }
	o.quiet = true
	s, found, err := Open(o)
	if err != nil {
		return err
	}
	s.journal.limit = 24 * recordBytes // checkpoints are write points too
	var taken [crashSlots]bool
	for _, h := range found {
		taken[h.Slot] = true
	}
	for i := range 1000 {
		slot := r.IntN(crashSlots)
		n := int(seed%1e6)*1000 + i + 1
		if taken[slot] {
			fmt.Println("bury", slot)
			err = s.Tombstone(policy.Slot(slot))
			fmt.Println("buried", slot)
		}
		if err == nil {
			fmt.Println("write", slot, n)
			err = s.Write(policy.Slot(slot), block(n), content(n, 0))
			fmt.Println("wrote", slot, n)
			taken[slot] = true
		}
		if err == nil && r.IntN(8) == 0 {
			err = s.Sync()
		}
		if err != nil {
			return err
		}
	}
	return errors.New("nobody killed this process")
}

// The worker is killed at every kind of write point: in the middle of a block,
// of a record, of a checkpoint, around every sync. What it had said to be stored
// is found and whole, what it had said to be gone is gone, and what it was at is
// either; nothing is served wrong, and the slots add up. KVASIR_CRASHES sets the
// number of kills.
func TestKilledAtEveryWritePoint(t *testing.T) {
	r := trial.Rand(t)
	kills := trial.Size(t, "KVASIR_CRASHES", 30)
	at := map[string]int{}
	for done := 0; done < kills; done += victimRuns {
		dir := t.TempDir()
		want := map[int]int{} // block by slot
		for range victimRuns {
			seed := r.Uint64()
			last := kill(t, dir, seed, want)
			at[last]++
			afterCrash(t, dir, want, last)
		}
	}
	t.Logf("killed while it was at: %v", at)
}

// kill runs a victim, keeps the books of what it said, and returns what it was
// at: "bury", "write" or "open".
func kill(t *testing.T, dir string, seed uint64, want map[int]int) (last string) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), victimDir+"="+dir, victimSeed+"="+strconv.FormatUint(seed, 10))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	said, err := c.Output()
	if c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the victim ended by itself: %v\n%s", err, stderr.String())
	}
	last = "open"
	lines := bufio.NewScanner(bytes.NewReader(said))
	for lines.Scan() {
		var what string
		var slot, n int
		_, _ = fmt.Sscan(lines.Text(), &what, &slot, &n)
		switch last = what; what {
		case "buried":
			delete(want, slot)
		case "wrote":
			want[slot] = n
		case "write", "bury":
			last = strings.Join([]string{what, strconv.Itoa(slot)}, " ")
		}
	}
	what, slot, begun := strings.Cut(last, " ")
	if begun {
		n, _ := strconv.Atoi(slot)
		want[n] = -1 // anything that is whole
	}
	return what
}

// afterCrash compares what is found with the books, and brings these up to date.
func afterCrash(t *testing.T, dir string, want map[int]int, last string) {
	t.Helper()
	s, found := open(t, options(dir, crashSlots))
	tab := policy.NewTable(policy.LRU, s.Capacity())
	if refused := tab.Restore(found); len(refused) > 0 {
		t.Fatalf("killed at %s: %v was found and has no place", last, refused)
	}
	if err := tab.Check(); err != nil {
		t.Fatalf("killed at %s: %v", last, err)
	}
	got := map[int]int{}
	for _, h := range found {
		n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
		dst := host.Aligned(s.stride)
		switch err := s.Read(h.Slot, dst); {
		case err == nil && (!bytes.Equal(dst[:testBlock], content(n, 0)) || h.Block != block(n)):
			t.Fatalf("killed at %s: slot %d serves block %d wrong", last, h.Slot, n)
		case err == nil:
			got[int(h.Slot)] = n
		case !errors.Is(err, ErrCorrupt) || want[int(h.Slot)] != -1:
			t.Fatalf("killed at %s: block %d in slot %d: %v", last, n, h.Slot, err)
		}
	}
	for slot := range crashSlots {
		if want[slot] != -1 && got[slot] != want[slot] {
			t.Fatalf("killed at %s: slot %d holds block %d, the victim had stored %d", last, slot, got[slot], want[slot])
		}
	}
	clear(want)
	for slot, n := range got {
		want[slot] = n
	}
	s.kill(t)
}
