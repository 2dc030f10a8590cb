package tokenizer

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// benchSubjects runs bench on each tokenizer and corpus that is here.
func benchSubjects(b *testing.B, bench func(b *testing.B, path, text string)) {
	limit := 2_500_000
	if s := os.Getenv("KVASIR_BENCH_BYTES"); s != "" {
		limit, _ = strconv.Atoi(s)
	}
	for _, name := range []string{"qwen", "gptoss", "phi3", "smollm2"} {
		for _, kind := range corpora {
			b.Run(name+"/"+kind, func(b *testing.B) {
				path := os.Getenv("KVASIR_SMOLLM2")
				if name != "smollm2" {
					path = shared(b, name)
				} else if path == "" {
					b.Skip("set KVASIR_SMOLLM2 to SmolLM2-135M-Instruct's GGUF file")
				}
				bench(b, path, corpus(b, kind, limit))
			})
		}
	}
}

// cpuTime is this process's. On a machine with neighbours it says what wall time
// does on a quiet one.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, size int, cpu time.Duration) {
	b.ReportMetric(float64(b.N)*float64(size)/1e6/cpu.Seconds(), "MB/cpu-s")
}

// BenchmarkEncodeWarm encodes a corpus that was encoded before.
func BenchmarkEncodeWarm(b *testing.B) {
	benchSubjects(b, func(b *testing.B, path, text string) {
		tok := mustLoad(b, path)
		ids := tok.Encode(nil, text, false)
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		t0 := cpuTime()
		for b.Loop() {
			ids = tok.Encode(ids[:0], text, false)
		}
		reportCPU(b, len(text), cpuTime()-t0)
		b.ReportMetric(float64(len(ids)), "tokens/op")
	})
}

// BenchmarkEncodeCold encodes a corpus with empty caches.
func BenchmarkEncodeCold(b *testing.B) {
	benchSubjects(b, func(b *testing.B, path, text string) {
		tok := mustLoad(b, path)
		ids := tok.Encode(nil, text, false)
		e := &encoder{t: tok}
		b.SetBytes(int64(len(text)))
		t0 := cpuTime()
		for b.Loop() {
			clear(e.short[:])
			clear(e.long[:])
			tok.Forget()
			e.dst = ids[:0]
			e.encode(text)
		}
		reportCPU(b, len(text), cpuTime()-t0)
	})
}

// BenchmarkEncodeNew encodes the odd parts of a corpus with the word caches as its
// even parts left them.
func BenchmarkEncodeNew(b *testing.B) {
	benchSubjects(b, func(b *testing.B, path, text string) {
		tok := mustLoad(b, path)
		ids := tok.Encode(nil, text, false)
		e := &encoder{t: tok}
		var parts [2][]string
		size := 0
		for i, part := range chunks(text, 16_000) {
			parts[i%2] = append(parts[i%2], part)
			size += i % 2 * len(part)
		}
		b.SetBytes(int64(size))
		var cpu time.Duration
		for range b.N {
			b.StopTimer()
			clear(e.short[:])
			clear(e.long[:])
			tok.Forget()
			for i, parts := range parts {
				if i == 1 {
					b.StartTimer()
				}
				t0 := cpuTime()
				for _, part := range parts {
					e.dst = ids[:0]
					e.encode(part)
				}
				if i == 1 {
					cpu += cpuTime() - t0
				}
			}
		}
		reportCPU(b, size, cpu)
	})
}

// BenchmarkLoad builds a tokenizer from the bytes of its tokenizer.json.
func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"qwen", "gptoss", "phi3"} {
		b.Run(name, func(b *testing.B) {
			file, err := readFile(shared(b, name))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := LoadJSON(file); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
