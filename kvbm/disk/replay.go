package disk

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// replayed is what a journal says about the slab.
type replayed struct {
	live    []record // by slot; seq 0 = nothing
	lastSeq uint64
	size    int64 // whole records in the file, with the header, in bytes
	skipped int   // records that do not check, or name no slot of this slab
}

// replay reads the records after the header. Records that do not check are
// skipped: see the package comment for why nothing worse than a miss comes of
// it.
func replay(r io.Reader, seed uint32, capacity int, blockBytes uint32) (replayed, error) {
	out := replayed{live: make([]record, capacity), size: headerBytes}
	in := bufio.NewReaderSize(r, 1<<20)
	var b [recordBytes]byte
	for {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break // a torn last record is overwritten by the next one
			}
			return out, err
		}
		out.size += recordBytes
		rec, ok := parseRecord(b[:], seed)
		if !ok || rec.seq <= out.lastSeq {
			out.skipped++
			continue
		}
		out.lastSeq = rec.seq
		switch {
		case int64(rec.slot) >= int64(capacity):
			out.skipped++ // the slab was made smaller
		case rec.kind == kindTombstone:
			out.live[rec.slot] = record{}
		case rec.length == blockBytes:
			out.live[rec.slot] = rec
		default:
			out.skipped++
		}
	}
	out.dropDuplicates()
	return out, nil
}

// dropDuplicates keeps the newest of two slots with one block, which a lost
// tombstone leaves behind.
func (r *replayed) dropDuplicates() {
	n := 0
	for i := range r.live {
		if r.live[i].seq != 0 {
			n++
		}
	}
	newest := make(map[kv.Hash]uint32, n) // slot
	for i := range r.live {
		rec := &r.live[i]
		if rec.seq == 0 {
			continue
		}
		other, dup := newest[rec.block.Hash]
		switch {
		case !dup:
			newest[rec.block.Hash] = rec.slot
		case r.live[other].seq > rec.seq:
			*rec = record{}
		default:
			r.live[other] = record{}
			newest[rec.block.Hash] = rec.slot
		}
	}
}

// inOrder is the slots that hold something, oldest first.
func inOrder(live []record) []uint32 {
	type key struct {
		seq  uint64
		slot uint32
	}
	keys := make([]key, 0, len(live))
	for i := range live {
		if live[i].seq != 0 {
			keys = append(keys, key{live[i].seq, uint32(i)})
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.seq, b.seq) })
	slots := make([]uint32, len(keys))
	for i, k := range keys {
		slots[i] = k.slot
	}
	return slots
}
