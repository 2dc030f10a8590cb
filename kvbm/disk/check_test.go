package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

func TestCheckCountsWhatIsSoundAndWhatIsNot(t *testing.T) {
	dir := t.TempDir()
	if _, err := Check(dir); err == nil || !strings.Contains(err.Error(), "name the folder") {
		t.Fatalf("an empty folder: %v", err)
	}
	s, _ := open(t, options(dir, 6))
	for i := range 5 {
		write(t, s, i, i+1)
	}
	if err := s.Tombstone(policy.Slot(4)); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a folder in use: %v", err)
	}
	s.kill(t)
	r, err := Check(dir)
	if err != nil || !r.OK() || r.Slots != 6 || r.Blocks != 4 || r.Sound != 4 || r.BlockBytes != testBlock {
		t.Fatalf("%+v, %v", r, err)
	}
	flip := func(name string, at int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		f.ReadAt(b, at)
		b[0] ^= 4
		f.WriteAt(b, at)
	}
	flip("slab", slotsAt+int64(s.stride)+77)
	flip("journal", headerBytes+2*recordBytes+20)
	r, err = Check(dir)
	if err != nil || r.OK() || r.Blocks != 3 || r.Sound != 2 || r.Corrupt != 1 || r.SkippedRecords != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	flip("journal", 3)
	if _, err := Check(dir); err == nil || !strings.Contains(err.Error(), "journal is damaged") {
		t.Fatalf("a damaged journal header: %v", err)
	}
}
