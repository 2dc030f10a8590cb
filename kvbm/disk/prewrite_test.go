package disk

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Blocks are written while the slab is being pre-written: no zeros land on
// them, and that it is done is remembered.
func TestPrewritingSparesBlocks(t *testing.T) {
	const slots = 400 // some batches
	dir := t.TempDir()
	s, _ := open(t, options(dir, slots))
	if !s.Direct() {
		s.kill(t)
		t.Skip("the file system has no O_DIRECT; nothing is pre-written")
	}
	var want []int
	for n := 1; n <= slots; n += 3 {
		write(t, s, slots-n, n)
		want = append(want, n)
	}
	var head header
	for deadline := time.Now().Add(30 * time.Second); head.counter != slots; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the superblock says that %d of %d slots are pre-written", head.counter, slots)
		}
		page := make([]byte, headerBytes)
		f, err := os.Open(filepath.Join(dir, "slab"))
		if err != nil {
			t.Fatal(err)
		}
		f.ReadAt(page, 0)
		f.Close()
		head, _ = parseHeader(page, slabMagic)
	}
	s.kill(t)
	s, found := open(t, options(dir, slots))
	wantHeld(t, s, found, want...)
	s.kill(t)
}

func TestTheSlabWorksWithoutDirectIO(t *testing.T) {
	f, direct, err := openDirect(filepath.Join(t.TempDir(), "slab"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if direct {
		if err := undirect(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("x"), 1); err != nil { // O_DIRECT would refuse it
		t.Fatal(err)
	}
}
