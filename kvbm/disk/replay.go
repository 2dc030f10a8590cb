package disk

import (
	"bufio"
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
	newest := make(map[kv.Hash]record)
	for _, rec := range r.live {
		if rec.seq == 0 {
			continue
		}
		old, dup := newest[rec.block.Hash]
		if dup && old.seq > rec.seq {
			old, rec = rec, old
		}
		newest[rec.block.Hash] = rec
		if dup {
			r.live[old.slot] = record{}
		}
	}
}

// inOrder is the live records, oldest first.
func inOrder(live []record) []record {
	recs := make([]record, 0, len(live))
	for _, rec := range live {
		if rec.seq != 0 {
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(a, b record) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return recs
}
