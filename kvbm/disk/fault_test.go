package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// faults decides the fate of each write, by file.
type faults struct {
	// fail returns how many of the bytes reach the file before the error, or an
	// error of nil.
	fail func(name string, b []byte) (int, error)
}

type faultyFile struct {
	file
	name string
	f    *faults
}

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.f.fail(f.name, b)
	if err == nil {
		return f.file.WriteAt(b, off)
	}
	if n > 0 {
		_, _ = f.file.WriteAt(b[:n], off)
	}
	return n, err
}

func (f *faults) wrap(name string, raw *os.File) file { return faultyFile{osFile{raw}, name, f} }

// openQuiet opens a store that writes nothing in the background, so that every
// write is the test's.
func openQuiet(t *testing.T, o Options) (*Store, []policy.Held) {
	t.Helper()
	o.quiet = true
	return open(t, o)
}

func never(string, []byte) (int, error) { return 0, nil }

func TestAFullDiskFailsTheWriteAndLosesNothingElse(t *testing.T) {
	dir := t.TempDir()
	f := &faults{fail: never}
	o := options(dir, 3)
	o.wrap = f.wrap
	s, _ := openQuiet(t, o)
	write(t, s, 0, 1)
	f.fail = func(name string, b []byte) (int, error) { return 0, unix.ENOSPC }
	if err := s.Write(1, block(2), content(2, 0)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("write on a full disk: %v", err)
	}
	if err := s.Tombstone(0); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("tombstone on a full disk: %v", err)
	}
	if err := s.Read(0, host.Aligned(s.stride)); err == nil {
		t.Fatal("a slot is read after its tombstone, because that could not be written")
	}
	f.fail = never
	write(t, s, 1, 3)
	s.kill(t)
	s, found := open(t, options(dir, 3))
	// Block 1 is back: its tombstone was never written, and its bytes are whole.
	wantHeld(t, s, found, 1, 3)
	s.kill(t)
}

func TestATornRecordIsOverwritten(t *testing.T) {
	for torn := 1; torn < recordBytes; torn++ {
		dir := t.TempDir()
		f := &faults{fail: never}
		o := options(dir, 3)
		o.wrap = f.wrap
		s, _ := openQuiet(t, o)
		f.fail = func(name string, b []byte) (int, error) {
			if name == "journal" {
				return torn, unix.EIO
			}
			return 0, nil
		}
		if err := s.Write(0, block(1), content(1, 0)); err == nil {
			t.Fatal("a torn record went unnoticed")
		}
		f.fail = never
		write(t, s, 1, 2)
		s.kill(t)
		s, found := open(t, options(dir, 3))
		wantHeld(t, s, found, 2)
		s.kill(t)
	}
}

func TestAFailingCheckpointLeavesTheJournalInUse(t *testing.T) {
	dir := t.TempDir()
	f := &faults{fail: never}
	o := options(dir, 2)
	o.wrap = f.wrap
	s, _ := openQuiet(t, o)
	f.fail = func(name string, b []byte) (int, error) {
		if name == "journal" && len(b) > recordBytes {
			return len(b) / 2, unix.EIO
		}
		return 0, nil
	}
	write(t, s, 0, 1)
	for range 4200 { // beyond the size at which a checkpoint is due
		if err := s.Tombstone(1); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, 1, 2)
	if err := s.Close(); err == nil {
		t.Fatal("the failing checkpoint at close went unnoticed")
	}
	s, found := open(t, options(dir, 2))
	wantHeld(t, s, found, 1, 2)
	s.kill(t)
}

func TestACheckpointShrinksTheJournal(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 2))
	write(t, s, 0, 1)
	for range 4200 {
		if err := s.Tombstone(1); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, 1, 2)
	if st, _ := os.Stat(s.journal.path()); st.Size() > 200*recordBytes {
		t.Fatalf("the journal has %d bytes", st.Size())
	}
	s.kill(t)
	s, found := open(t, options(dir, 2))
	wantHeld(t, s, found, 1, 2)
	s.kill(t)
}

// Random writes, tombstones, failing writes and deaths of the process, beside a
// map of what each slot must hold. After every death the store finds what was
// acknowledged, maybe more, and never a wrong byte.
func TestRandomCrashes(t *testing.T) {
	r := trial.Rand(t)
	for range 40 {
		runCrashes(t, r)
	}
}

func runCrashes(t *testing.T, r *rand.Rand) {
	const slots = 4
	dir := t.TempDir()
	f := &faults{}
	rate := 0
	f.fail = func(_ string, b []byte) (int, error) {
		if r.IntN(100) < rate {
			return r.IntN(len(b)+1) &^ (host.Align - 1), unix.EIO
		}
		return 0, nil
	}
	o := options(dir, slots)
	o.wrap = f.wrap
	var acked [slots]int // block in the slot for sure; 0: nothing, -1: unknown
	next := 1
	for range 5 {
		rate = 0
		s, found := openQuiet(t, o)
		var got [slots]int
		for _, h := range found {
			n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
			got[h.Slot] = n
			dst := host.Aligned(s.stride)
			err := s.Read(h.Slot, dst)
			switch {
			case err == nil && !bytes.Equal(dst[:testBlock], content(n, 0)):
				t.Fatalf("slot %d: block %d is served wrong", h.Slot, n)
			case err != nil && (!errors.Is(err, ErrCorrupt) || acked[h.Slot] == n):
				t.Fatalf("slot %d: block %d: %v", h.Slot, n, err)
			}
		}
		for i := range acked {
			if acked[i] >= 0 && acked[i] != got[i] {
				t.Fatalf("slot %d holds block %d, want %d", i, got[i], acked[i])
			}
			acked[i] = got[i]
		}
		rate = 20
		for range r.IntN(25) {
			slot := r.IntN(slots)
			if acked[slot] != 0 {
				if s.Tombstone(policy.Slot(slot)) != nil {
					acked[slot] = -1
					continue
				}
				acked[slot] = 0
			}
			if r.IntN(3) > 0 {
				if s.Write(policy.Slot(slot), block(next), content(next, 0)) == nil {
					acked[slot] = next
				}
				next++
			}
		}
		if err := s.closeFiles(); err != nil {
			t.Fatal(err)
		}
	}
}
