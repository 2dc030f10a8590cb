package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const flipSlots = 4

// Any one bit flips, in a block, in the journal, or in a journal that is a
// checkpoint: it is always noticed and counted, and no wrong byte is served.
// KVASIR_FLIPS sets the number for each of the three.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	r, flips := trial.Rand(t), trial.Size(t, "KVASIR_FLIPS", 100)
	t.Run("slab", func(t *testing.T) { flipSlab(t, r, flips) })
	t.Run("journal", func(t *testing.T) { flipJournal(t, r, flips, false) })
	t.Run("checkpoint", func(t *testing.T) { flipJournal(t, r, flips, true) })
}

// flipped is a folder in memory, if there is such a file system, with blocks in
// it, some of which replaced others.
func flipped(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kvasir-disk-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, _ := openQuiet(t, options(dir, flipSlots))
	for n := range 2*flipSlots - 1 {
		if n >= flipSlots {
			if err := s.Tombstone(policy.Slot(n % flipSlots)); err != nil {
				t.Fatal(err)
			}
		}
		write(t, s, n%flipSlots, n+1)
	}
	s.kill(t)
	return dir
}

func flip(b []byte, bit int) { b[bit/8] ^= 1 << (bit % 8) }

func flipSlab(t *testing.T, r *rand.Rand, flips int) {
	dir := flipped(t)
	s, found := openQuiet(t, options(dir, flipSlots))
	defer s.kill(t)
	f, err := os.OpenFile(filepath.Join(dir, "slab"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one, dst := make([]byte, 1), host.Aligned(s.stride)
	for range flips {
		h, bit := found[r.IntN(len(found))], r.IntN(8*testBlock)
		at := s.offset(h.Slot) + int64(bit/8)
		for _, want := range []error{ErrCorrupt, nil} { // flipped, and flipped back
			if _, err := f.ReadAt(one, at); err != nil {
				t.Fatal(err)
			}
			flip(one, bit%8)
			if _, err := f.WriteAt(one, at); err != nil {
				t.Fatal(err)
			}
			if err := s.Read(h.Slot, dst); !errors.Is(err, want) {
				t.Fatalf("bit %d of slot %d: %v, want %v", bit, h.Slot, err, want)
			}
		}
	}
	t.Logf("%d flips, all known to be corrupt", flips)
}

func flipJournal(t *testing.T, r *rand.Rand, flips int, checkpoint bool) {
	dir := flipped(t)
	if checkpoint {
		s, _ := openQuiet(t, options(dir, flipSlots))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "journal")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	detected, served, missed := 0, 0, 0
	for range flips {
		after := bytes.Clone(before)
		bit := r.IntN(8 * len(after))
		flip(after, bit)
		if err := os.WriteFile(path, after, 0o600); err != nil {
			t.Fatal(err)
		}
		s, found := openQuiet(t, options(dir, flipSlots))
		if s.Skipped() == 0 {
			t.Fatalf("bit %d flipped and nothing was skipped", bit)
		}
		detected++
		missed += flipSlots - len(found)
		for _, h := range found {
			n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
			dst := host.Aligned(s.stride)
			switch err := s.Read(h.Slot, dst); {
			case errors.Is(err, ErrCorrupt): // the record of what replaced it is gone
				missed++
			case err != nil:
				t.Fatal(err)
			case !bytes.Equal(dst[:testBlock], content(n, 0)) || h.Block != block(n):
				t.Fatalf("bit %d flipped: block %d is served wrong", bit, n)
			default:
				served++
			}
		}
		s.kill(t)
	}
	t.Logf("%d flips, %d detected; %d blocks missed, %d served right", flips, detected, missed, served)
	if missed == 0 || served == 0 {
		t.Fatal("the flips did not reach all outcomes")
	}
}
