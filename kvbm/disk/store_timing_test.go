package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// BenchmarkRestart is how long it takes until a tier with a million blocks in
// its journal, one or two million records long, can be used again. The slab is 4 GiB,
// allocated and not written.
func BenchmarkRestart(b *testing.B) {
	const blocks = 1_000_000
	dir := b.TempDir()
	o := Options{Dir: dir, Bytes: slotsAt + blocks*host.Align, BlockBytes: host.Align, Fingerprint: hash(-1), quiet: true}
	s, _, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	head, seed := s.journal.head, s.journal.seed
	if err := s.closeFiles(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		records int
	}{{"checkpoint", blocks}, {"longest journal", 2*blocks - 1}} {
		b.Run(c.name, func(b *testing.B) {
			journal := head.encode(journalMagic)
			for i := range c.records {
				r := record{kind: kindCommit, slot: uint32(i % blocks), seq: uint64(i + 1), block: block(i + 1), length: host.Align}
				journal = r.append(journal, seed)
			}
			if err := os.WriteFile(filepath.Join(dir, "journal"), journal, 0o600); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s, found, err := Open(o)
				if err != nil || len(found) != blocks {
					b.Fatal(len(found), err)
				}
				if refused := policy.NewTable(policy.LRU, s.Capacity()).Restore(found); len(refused) > 0 {
					b.Fatalf("%d blocks have no place", len(refused))
				}
				b.StopTimer()
				if err := s.closeFiles(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
