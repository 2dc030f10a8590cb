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

const sector = 512

// volatile is a file whose writes are in a cache until it is synced. When the
// power goes, any of the cached sectors may have reached the disk, in any order.
type volatile struct {
	file
	cached []cachedWrite
}

type cachedWrite struct {
	off int64
	b   []byte
}

func (v *volatile) WriteAt(b []byte, off int64) (int, error) {
	v.cached = append(v.cached, cachedWrite{off, bytes.Clone(b)})
	return len(b), nil
}

func (v *volatile) ReadAt(b []byte, off int64) (int, error) {
	n, err := v.file.ReadAt(b, off)
	for _, w := range v.cached {
		from, to := max(off, w.off), min(off+int64(len(b)), w.off+int64(len(w.b)))
		if from < to {
			copy(b[from-off:], w.b[from-w.off:to-w.off])
			n = max(n, int(to-off))
		}
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

func (v *volatile) Sync() error {
	for _, w := range v.cached {
		if _, err := v.file.WriteAt(w.b, w.off); err != nil {
			return err
		}
	}
	v.cached = nil
	return v.file.Sync()
}

// lose ends the power. Of each cached write each sector is on the disk or not,
// with a chance that is drawn for the write: all, none and torn writes are as
// likely; and a later write may have come before an earlier one.
func (v *volatile) lose(t *testing.T, r *rand.Rand, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, i := range r.Perm(len(v.cached)) {
		w, chance := v.cached[i], r.IntN(3)
		for at := 0; at < len(w.b); {
			next := min(len(w.b), int((w.off+int64(at))/sector+1)*sector-int(w.off))
			if chance == 2 || chance == 1 && r.IntN(2) == 0 {
				if _, err := f.WriteAt(w.b[at:next], w.off+int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			at = next
		}
	}
	v.cached = nil
}

// The machine dies: what was synced and not replaced since is found and whole,
// and whatever else is found is whole or known to be corrupt. KVASIR_POWER_CUTS
// sets the number of deaths.
func TestPowerIsLostWithWritesTornAndReordered(t *testing.T) {
	r := trial.Rand(t)
	cuts := trial.Size(t, "KVASIR_POWER_CUTS", 300)
	whole, corrupt, lost := 0, 0, 0
	for done := 0; done < cuts; done += 10 {
		dir, err := os.MkdirTemp("/dev/shm", "kvasir-disk-test-")
		if err != nil {
			dir = t.TempDir()
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		safe := map[int]int{} // block by slot: synced, and not replaced since
		for life := range 10 {
			files := map[string]*volatile{}
			o := options(dir, crashSlots)
			o.quiet = true
			o.wrap = func(name string, f *os.File) file {
				files[name] = &volatile{file: osFile{f}}
				return files[name]
			}
			s, found := open(t, o)
			var taken [crashSlots]bool
			for _, h := range found {
				taken[h.Slot] = true
				n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
				dst := host.Aligned(s.stride)
				switch err := s.Read(h.Slot, dst); {
				case errors.Is(err, ErrCorrupt) && safe[int(h.Slot)] == 0:
					corrupt++
				case err != nil:
					t.Fatalf("block %d, synced before: %v", n, err)
				case !bytes.Equal(dst[:testBlock], content(n, 0)) || h.Block != block(n):
					t.Fatalf("slot %d serves block %d wrong", h.Slot, n)
				default:
					whole++
					if safe[int(h.Slot)] == n {
						delete(safe, int(h.Slot))
					}
				}
			}
			for slot, n := range safe {
				t.Fatalf("block %d, synced in slot %d, is lost", n, slot)
			}
			safe = churn(t, r, s, &taken, life*1000+done*100_000)
			lost += crashSlots - len(safe)
			for name, f := range files {
				f.lose(t, r, filepath.Join(dir, name))
			}
			s.kill(t)
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d blocks found whole, %d corrupt; %d slots had nothing to keep", whole, corrupt, lost)
	if whole == 0 || corrupt == 0 {
		t.Fatal("the deaths did not reach all outcomes")
	}
}

// churn writes, buries and syncs at random, and returns what is safe at the end.
func churn(t *testing.T, r *rand.Rand, s *Store, taken *[crashSlots]bool, from int) (safe map[int]int) {
	t.Helper()
	s.journal.limit = 24 * recordBytes
	safe, fresh := map[int]int{}, map[int]int{}
	for n := from + 1; n < from+1+r.IntN(40); n++ {
		slot := r.IntN(crashSlots)
		if taken[slot] {
			if err := s.Tombstone(policy.Slot(slot)); err != nil {
				t.Fatal(err)
			}
			delete(safe, slot)
			delete(fresh, slot)
		}
		write(t, s, slot, n)
		taken[slot] = true
		fresh[slot] = n
		if r.IntN(5) == 0 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			for slot, n := range fresh {
				safe[slot] = n
			}
		}
	}
	return safe
}
