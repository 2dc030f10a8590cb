package disk

import (
	"bytes"
	"testing"
)

// BenchmarkReplay is how long a restart with a million blocks in the journal
// takes.
func BenchmarkReplay(b *testing.B) {
	const blocks = 1_000_000
	seed := header{slabID: 1}.seed()
	var journal []byte
	for i := range blocks {
		journal = record{kind: kindCommit, slot: uint32(i), seq: uint64(i + 1), block: block(i + 1), length: testBlock}.append(journal, seed)
	}
	for b.Loop() {
		got, err := replay(bytes.NewReader(journal), seed, blocks, testBlock)
		if err != nil || len(inOrder(got.live)) != blocks {
			b.Fatal(err)
		}
	}
}
