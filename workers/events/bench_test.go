package events

import (
	"bytes"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// What one batch costs between the wire and the index: decoding, hashing and
// the books, for a prefill of many blocks and for a decode's single block.
func BenchmarkBatch(b *testing.B) {
	f := func(name string, blocks int) {
		b.Run(name, func(b *testing.B) {
			const size = 16
			var wire bytes.Buffer
			e := Event{Kind: kv.Stored, Tokens: make([]uint32, size*blocks), BlockSize: size}
			for i := range e.Tokens {
				e.Tokens[i] = uint32(i * 7919 % 150_000)
			}
			for i := range blocks {
				e.Hashes = append(e.Hashes, IntHash(uint64(i)))
			}
			gone := Event{Kind: kv.Removed, Hashes: e.Hashes}
			if err := appendBatch(&wire, Batch{Events: []Event{e, gone}}); err != nil {
				b.Fatal(err)
			}
			var stats ReaderStats
			var batch Batch
			b.SetBytes(int64(wire.Len()))
			for b.Loop() {
				// A translator of its own, because names outlive their blocks.
				t := newTranslator("m", size, false, &stats)
				if err := decodeBatch(&batch, wire.Bytes()); err != nil {
					b.Fatal(err)
				}
				var out []kv.Event
				for i := range batch.Events {
					out = t.apply(out, &batch.Events[i])
				}
				if len(out) != 2 {
					b.Fatal("nothing was translated")
				}
			}
			b.ReportMetric(float64(b.N*blocks)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
	f("prefill/500", 500)
	f("decode/1", 1)
}
