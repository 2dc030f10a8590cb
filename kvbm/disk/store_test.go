package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		seed, _ := strconv.ParseUint(os.Getenv(victimSeed), 10, 64)
		fmt.Fprintln(os.Stderr, victim(dir, seed))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const testBlock = 5000 // not a multiple of a page

func hash(n int) (h kv.Hash) {
	binary.LittleEndian.PutUint64(h[:], uint64(n))
	h[15] = 1
	return h
}

func block(n int) kv.Block { return kv.Block{Hash: hash(n), Parent: hash(n - 1)} }

// content is what block n holds when it was written for the given time.
func content(n, version int) []byte {
	b := host.Aligned(host.Stride(testBlock))
	r := rand.New(rand.NewPCG(uint64(n), uint64(version)))
	for i := 0; i+8 <= testBlock; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:testBlock]
}

func options(dir string, slots int) Options {
	return Options{
		Dir: dir, Bytes: int64(slotsAt + slots*host.Stride(testBlock)),
		BlockBytes: testBlock, Fingerprint: hash(-1),
	}
}

func open(t *testing.T, o Options) (*Store, []policy.Held) {
	t.Helper()
	s, found, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, found
}

// kill ends a store as the death of its process would: nothing is written any
// more, and what was written stays.
func (s *Store) kill(t *testing.T) {
	t.Helper()
	s.cancel()
	s.wg.Wait()
	if err := s.closeFiles(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, s *Store, slot, n int) {
	t.Helper()
	if err := s.Write(policy.Slot(slot), block(n), content(n, 0)); err != nil {
		t.Fatal(err)
	}
}

// wantHeld reads every block that was found and compares.
func wantHeld(t *testing.T, s *Store, found []policy.Held, want ...int) {
	t.Helper()
	var got []int
	for _, h := range found {
		n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
		got = append(got, n)
		dst := host.Aligned(host.Stride(testBlock))
		if err := s.Read(h.Slot, dst); err != nil {
			t.Fatalf("block %d: %v", n, err)
		}
		if !bytes.Equal(dst[:testBlock], content(n, 0)) {
			t.Fatalf("block %d: wrong bytes", n)
		}
		if h.Block.Parent != hash(n-1) {
			t.Fatalf("block %d: parent %v", n, h.Block.Parent)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("found blocks %v, want %v", got, want)
	}
}

// forEachFilesystem runs a test where O_DIRECT works, if it does in the
// temporary folder, and on tmpfs.
func forEachFilesystem(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("tmp", func(t *testing.T) { f(t, t.TempDir()) })
	t.Run("shm", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "kvasir-disk-test-")
		if err != nil {
			t.Skipf("no tmpfs to test on: %v", err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		f(t, dir)
	})
}

func TestBlocksAreFoundAgain(t *testing.T) {
	forEachFilesystem(t, func(t *testing.T, dir string) {
		s, found := open(t, options(dir, 4))
		t.Logf("direct I/O: %v", s.Direct())
		if len(found) != 0 || s.Capacity() != 4 {
			t.Fatalf("a new slab holds %d blocks in %d slots", len(found), s.Capacity())
		}
		write(t, s, 2, 1)
		write(t, s, 0, 2)
		write(t, s, 3, 3)
		if err := s.Tombstone(0); err != nil {
			t.Fatal(err)
		}
		write(t, s, 0, 4)
		s.kill(t)
		s, found = open(t, options(dir, 4))
		wantHeld(t, s, found, 1, 3, 4)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, found = open(t, options(dir, 4))
		wantHeld(t, s, found, 1, 3, 4)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASlabOfAnotherLayoutIsStartedAfresh(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 4))
	write(t, s, 0, 1)
	s.kill(t)
	var log strings.Builder
	o := options(dir, 4)
	o.Fingerprint = hash(-2)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, found := open(t, o)
	wantHeld(t, s, found)
	s.kill(t)
	if !strings.Contains(log.String(), "started afresh") {
		t.Fatalf("the log does not say so:\n%s", log.String())
	}
	s, found = open(t, options(dir, 4))
	wantHeld(t, s, found) // the first layout's blocks are gone for good
	s.kill(t)
}

func TestTwoStoresNeverShareAFolder(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 4))
	if _, _, err := Open(options(dir, 4)); err == nil || !strings.Contains(err.Error(), "in use by another worker") {
		t.Fatalf("second open: %v", err)
	}
	s.kill(t)
	s, _ = open(t, options(dir, 4))
	s.kill(t)
}

func TestTheSlabGrowsAndShrinks(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 4))
	for i := range 4 {
		write(t, s, i, i+1)
	}
	s.kill(t)
	s, found := open(t, options(dir, 6))
	wantHeld(t, s, found, 1, 2, 3, 4)
	write(t, s, 5, 5)
	s.kill(t)
	s, found = open(t, options(dir, 2))
	wantHeld(t, s, found, 1, 2)
	s.kill(t)
}

func TestASlabTooSmallForABlockIsRefused(t *testing.T) {
	_, _, err := Open(Options{Dir: t.TempDir(), Bytes: 8192, BlockBytes: testBlock})
	if err == nil || !strings.Contains(err.Error(), "give it at least") {
		t.Fatalf("err = %v", err)
	}
}

// A slot is written anew, but its commit never reaches the journal and neither
// did the tombstone: the old record must not pass the new bytes for its own.
func TestALostTombstoneIsAMissAndNotAWrongByte(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 2))
	write(t, s, 0, 1)
	if _, err := s.slab.WriteAt(content(2, 0)[:s.stride], s.offset(0)); err != nil {
		t.Fatal(err)
	}
	s.kill(t)
	s, found := open(t, options(dir, 2))
	if len(found) != 1 {
		t.Fatalf("found %v", found)
	}
	if err := s.Read(found[0].Slot, host.Aligned(s.stride)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("read: %v, want ErrCorrupt", err)
	}
	s.kill(t)
}

func TestTheNewerOfTwoSlotsWithOneBlockCounts(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, options(dir, 4))
	write(t, s, 0, 1)
	write(t, s, 2, 1) // the tombstone of slot 0 was lost
	s.kill(t)
	s, found := open(t, options(dir, 4))
	wantHeld(t, s, found, 1)
	if found[0].Slot != 2 {
		t.Fatalf("found in slot %d, want the newer one, 2", found[0].Slot)
	}
	s.kill(t)
}

// What the journal holds is cut off at every byte: recovery finds exactly the
// blocks whose records are whole, and each reads back right or, where a later
// write took its slot, is known to be corrupt.
func TestTheJournalCutAtEveryByte(t *testing.T) {
	const slots = 3
	dir := t.TempDir()
	s, _ := open(t, options(dir, slots))
	type step struct{ slot, n int } // n 0: tombstone
	var steps []step
	for n := 1; n <= 7; n++ {
		slot := n % slots
		if n > slots {
			if err := s.Tombstone(policy.Slot(slot)); err != nil {
				t.Fatal(err)
			}
			steps = append(steps, step{slot, 0})
		}
		write(t, s, slot, n)
		steps = append(steps, step{slot, n})
	}
	final := map[int]int{}
	for _, st := range steps {
		final[st.slot] = st.n
	}
	s.kill(t)
	journal, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	if want := headerBytes + len(steps)*recordBytes; len(journal) != want {
		t.Fatalf("a journal of %d bytes, want %d", len(journal), want)
	}
	for cut := range len(journal) + 1 {
		if err := os.WriteFile(filepath.Join(dir, "journal"), journal[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, found := open(t, options(dir, slots))
		want := map[int]int{}
		for _, st := range steps[:max(0, cut-headerBytes)/recordBytes] {
			want[st.slot] = st.n
		}
		for _, h := range found {
			n := int(binary.LittleEndian.Uint32(h.Block.Hash[:]))
			if want[int(h.Slot)] != n {
				t.Fatalf("cut at %d: slot %d holds block %d, want %d", cut, h.Slot, n, want[int(h.Slot)])
			}
			delete(want, int(h.Slot))
			dst := host.Aligned(s.stride)
			err := s.Read(h.Slot, dst)
			if overwritten := final[int(h.Slot)] != n; overwritten {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("cut at %d: block %d was overwritten; read: %v", cut, n, err)
				}
			} else if err != nil || !bytes.Equal(dst[:testBlock], content(n, 0)) {
				t.Fatalf("cut at %d: block %d: %v", cut, n, err)
			}
		}
		for slot, n := range want {
			if n != 0 {
				t.Fatalf("cut at %d: block %d in slot %d was not found", cut, n, slot)
			}
		}
		s.kill(t)
	}
}
