package disk

import (
	"bytes"
	"testing"
)

func FuzzParseRecord(f *testing.F) {
	seed := header{slabID: 1}.seed()
	f.Add(record{kind: kindCommit, slot: 3, seq: 9, block: block(4), sum: 5, length: 6}.append(nil, seed))
	f.Add(record{kind: kindTombstone, slot: 3, seq: 9}.append(nil, seed))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parseRecord(b, seed)
		if ok && !bytes.Equal(r.append(nil, seed), b[:recordBytes]) {
			t.Fatalf("% x is read as a record that is written differently", b)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(header{blockBytes: 1, fingerprint: hash(2), slabID: 3, counter: 4}.encode(slabMagic))
	f.Add(header{}.encode(journalMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, magic := range [][8]byte{slabMagic, journalMagic} {
			h, ok := parseHeader(b, magic)
			if !ok {
				continue
			}
			if back, ok := parseHeader(h.encode(magic), magic); !ok || back != h {
				t.Fatalf("%+v is read back as %+v", h, back)
			}
		}
	})
}

// Whatever the journal's bytes are, replay ends, stays within the slab and
// names no block twice.
func FuzzReplay(f *testing.F) {
	seed := header{slabID: 1}.seed()
	var b []byte
	for i := range 3 {
		b = record{kind: kindCommit, slot: uint32(i), seq: uint64(i + 1), block: block(i + 1), length: testBlock}.append(b, seed)
	}
	f.Add(b)
	f.Add(record{kind: kindTombstone, slot: 1, seq: 9}.append(b, seed))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := replay(bytes.NewReader(b), seed, 3, testBlock)
		if err != nil {
			t.Fatal(err)
		}
		if got.size > int64(headerBytes+len(b)) {
			t.Fatalf("%d bytes of records in %d", got.size, len(b))
		}
		seen := map[any]bool{}
		for slot, r := range got.live {
			if r.seq == 0 {
				continue
			}
			if int(r.slot) != slot || seen[r.block.Hash] || r.length != testBlock {
				t.Fatalf("slot %d: %+v", slot, r)
			}
			seen[r.block.Hash] = true
		}
	})
}
