package main

import (
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

const (
	tokenizerRounds = 5
	chatBytes       = 480_000
	partBytes       = 16_000 // of new text: about a long message
)

// tokenizerBench measures one tokenizer on one text.
type tokenizerBench struct {
	model string
	text  string
	ids   []uint32
	t     *tokenizer.Tokenizer
	load  []float64 // ms
}

func benchTokenizer(model, s string) (*tokenizerReport, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b := &tokenizerBench{model: model, text: s, ids: make([]uint32, 0, len(s)+16)}
	r := &tokenizerReport{Bytes: len(s)}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	text, err := b.rates(s)
	if err != nil {
		return nil, err
	}
	r.Tokens = len(b.t.Encode(b.ids, s, false))
	runtime.GC()
	runtime.ReadMemStats(&after)
	r.HeapMB = (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / 1e6
	r.AllocsPerCall = allocations(func() { b.t.Encode(b.ids, s, false) })
	mbs := func(seconds []float64, size int) float64 { return float64(size) / 1e6 / median(seconds) }
	r.First, r.Emptied, r.Again = mbs(text.first, len(s)), mbs(text.emptied, len(s)), mbs(text.again, len(s))
	seconds, size := b.newParts()
	r.New = mbs(seconds, size)
	if len(s) >= chatBytes {
		chat, err := b.rates(s[:chatBytes])
		if err != nil {
			return nil, err
		}
		r.Chat = &chatReport{EmptiedMS: 1e3 * median(chat.emptied), FirstMS: 1e3 * median(chat.first), AgainMS: 1e3 * median(chat.again)}
		if len(s) > chatBytes {
			r.Chat.NewMS = 1e3 * median(b.afterTheRest())
		}
	}
	r.LoadMS = median(b.load)
	return r, nil
}

// encode is the seconds that one call takes.
func (b *tokenizerBench) encode(s string) float64 {
	return ownTime(func() { b.t.Encode(b.ids, s, false) })
}

// callSeconds is how long calls took with each state of the caches.
type callSeconds struct{ first, emptied, again []float64 }

func (b *tokenizerBench) rates(s string) (c callSeconds, err error) {
	for range tokenizerRounds {
		b.t = nil
		runtime.GC()
		b.load = append(b.load, 1e3*ownTime(func() { b.t, err = tokenizer.Load(b.model) }))
		if err != nil {
			return c, err
		}
		runtime.GC() // loading's garbage is not encoding's cost
		c.first = append(c.first, b.encode(s))
		for range tokenizerRounds {
			c.again = append(c.again, b.encode(s))
		}
		for range tokenizerRounds {
			b.t.Forget()
			c.emptied = append(c.emptied, b.encode(s))
		}
	}
	return c, nil
}

// newParts encodes every second part of the text after the others.
func (b *tokenizerBench) newParts() (seconds []float64, size int) {
	known, unknown := everySecond(b.text, partBytes)
	for _, part := range unknown {
		size += len(part)
	}
	for range 2 * tokenizerRounds {
		b.t.Forget()
		for _, part := range known {
			b.encode(part)
		}
		seconds = append(seconds, ownTime(func() {
			for _, part := range unknown {
				b.t.Encode(b.ids, part, false)
			}
		}))
	}
	return seconds, size
}

// afterTheRest encodes the first 480 kB after all that follows them.
func (b *tokenizerBench) afterTheRest() (seconds []float64) {
	for range 2 * tokenizerRounds {
		b.t.Forget()
		b.encode(b.text[chatBytes:])
		seconds = append(seconds, b.encode(b.text[:chatBytes]))
	}
	return seconds
}

// everySecond cuts text into parts of about size bytes, and deals them out. Of a
// text too short for two parts, all is unknown.
func everySecond(text string, size int) (known, unknown []string) {
	for i := 1; text != ""; i++ {
		end := min(size, len(text))
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end++
		}
		if i%2 == 0 {
			known = append(known, text[:end])
		} else {
			unknown = append(unknown, text[:end])
		}
		text = text[end:]
	}
	return known, unknown
}

// allocations a call of f makes. A collection would empty pools and count as ours.
func allocations(f func()) float64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	return testing.AllocsPerRun(3, f)
}

// ownTime is the seconds that this process spends in f.
func ownTime(f func()) float64 {
	now := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	t0 := now()
	f()
	return (now() - t0).Seconds()
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
