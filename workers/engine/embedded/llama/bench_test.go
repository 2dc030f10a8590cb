package llama

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// demoModel opens the model that the environment names (SmolLM2-135M-Instruct).
func demoModel(tb testing.TB) *Model {
	tb.Helper()
	path := os.Getenv("KVASIR_SMOLLM2")
	if path == "" {
		tb.Skip("KVASIR_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf: the real model is not tested")
	}
	m, err := Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// newPages is zeroed pages for so many positions.
func newPages(m *Model, blockSize, positions int) [][]byte {
	var pages [][]byte
	for range (positions + blockSize - 1) / blockSize {
		pages = append(pages, make([]byte, m.BlockBytes(blockSize)))
	}
	return pages
}

func someTokens(m *Model, n int) []uint32 {
	tokens := make([]uint32, n)
	for i := range tokens {
		tokens[i] = uint32((i*7919 + 13) % m.config.Vocab)
	}
	return tokens
}

// weightBytes is what one token's decoding reads, and its multiply-adds.
func weightBytes(m *Model) (bytes, perToken, vocab int) {
	add := func(l *linear, n *int) {
		for _, w := range l.parts {
			bytes += len(w.data)
			*n += w.rows * w.cols
		}
	}
	for i := range m.layers {
		l := &m.layers[i]
		for _, lin := range []*linear{&l.qkv, &l.out, &l.gateUp, &l.down} {
			add(lin, &perToken)
		}
	}
	add(&m.output, &vocab)
	return bytes, perToken, vocab
}

// streamProbe reads all weights once on all members and returns bytes a second.
func (r *Runner) streamProbe(b *testing.B) float64 {
	var all [][]byte
	total := 0
	for i := range r.m.layers {
		l := &r.m.layers[i]
		for _, lin := range []*linear{&l.qkv, &l.out, &l.gateUp, &l.down} {
			for _, w := range lin.parts {
				all = append(all, w.data)
			}
		}
	}
	for _, w := range r.m.output.parts {
		all = append(all, w.data)
	}
	var pieces [][]float32
	const piece = 1 << 18
	for _, data := range all {
		for at := 0; at+piece <= len(data); at += piece {
			pieces = append(pieces, floats(data[at:at+piece]))
			total += piece
		}
	}
	best := 0.0
	read := func(member, task int) { streamSum(pieces[task], &r.memory[member]) }
	for range 5 {
		best = max(best, float64(total)/seconds(func() {
			r.team.run(len(pieces), &read)
		}))
	}
	return best
}

// flopProbe runs the product kernel on operands in the first-level cache.
func (r *Runner) flopProbe() float64 {
	const k, rows, rounds, tasks = 64, 8, 400, 16
	best := 0.0
	multiply := func(int, int) { fmaRegisters(k * rows * rounds) }
	for range 5 {
		best = max(best, 2*k*rows*lanes*rounds*tasks/seconds(func() {
			r.team.run(tasks, &multiply)
		}))
	}
	return best
}

// onVectors runs f for all sizes on all kernels but the portable ones.
func onVectors(b *testing.B, what string, sizes []int, f func(*testing.B, *Model, *Runner, int)) {
	m, best := demoModel(b), kernel
	defer func() { kernel = best }()
	for _, k := range hostKernels() {
		if k.name == portable.name {
			continue
		}
		for _, size := range sizes {
			b.Run(fmt.Sprintf("%s/%s=%d", k.name, what, size), func(b *testing.B) {
				kernel = k
				r := NewRunner(m, 16, runtime.GOMAXPROCS(0))
				defer r.Close()
				f(b, m, r, size)
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) { onVectors(b, "context", []int{16, 1024}, benchmarkDecode) }

func benchmarkDecode(b *testing.B, m *Model, r *Runner, past int) {
	ctx := context.Background()
	pages := newPages(m, 16, past+1)
	if _, err := r.Step(ctx, []Sequence{{Tokens: someTokens(m, past), Pages: pages}}); err != nil {
		b.Fatal(err)
	}
	one := []Sequence{{Tokens: []uint32{42}, Start: past, Pages: pages, Logits: true}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Step(ctx, one); err != nil {
			b.Fatal(err)
		}
	}
	rate := float64(b.N) / b.Elapsed().Seconds()
	limit := r.streamProbe(b)
	bytes, _, _ := weightBytes(m)
	kv := m.BlockBytes(16) / 16 * past
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(limit/1e9, "limit-GB/s")
	b.ReportMetric(rate*float64(bytes+kv)/limit, "share-of-bandwidth")
}

func BenchmarkPrefill(b *testing.B) { onVectors(b, "tokens", []int{512, 2000}, benchmarkPrefill) }

func benchmarkPrefill(b *testing.B, m *Model, r *Runner, n int) {
	ctx := context.Background()
	pages, tokens := newPages(m, 16, n), someTokens(m, n)
	const chunk = 512
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at < n; at += chunk {
			end := min(n, at+chunk)
			if _, err := r.Step(ctx, []Sequence{{Tokens: tokens[at:end], Start: at, Pages: pages, Logits: end == n}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	rate := float64(n*b.N) / b.Elapsed().Seconds()
	limit := r.flopProbe()
	_, perToken, vocab := weightBytes(m)
	// Attention: scores and values, each position against all before it.
	attend := m.config.Layers * m.config.Heads * m.config.HeadDim * n
	flops := 2 * (float64(perToken+attend) + float64(vocab)/float64(n))
	b.ReportMetric(rate, "tokens/s")
	b.ReportMetric(limit/1e9, "limit-GFLOP/s")
	b.ReportMetric(rate*flops/limit, "share-of-FLOPs")
}
