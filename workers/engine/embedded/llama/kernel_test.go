package llama

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// anyFloat is a random float32 of any exponent in range: tiny and huge ones meet
// in sums, and ties are common.
func anyFloat(rng *rand.Rand, exponents int) float32 {
	x := math.Ldexp(float64(1+rng.IntN(1<<24)), rng.IntN(2*exponents+1)-exponents-12)
	if rng.IntN(2) == 0 {
		x = -x
	}
	return float32(x)
}

func TestEmulatedMultiplyAddRoundsOnce(t *testing.T) {
	rng := trial.Rand(t)
	exact := func(a, b, c float32) float32 {
		wide := func(x float32) *big.Float { return new(big.Float).SetPrec(1000).SetFloat64(float64(x)) }
		p := wide(a)
		p.Mul(p, wide(b)).Add(p, wide(c))
		f, _ := p.Float32()
		return f
	}
	check := func(a, b, c float32) {
		t.Helper()
		if got, want := fma32(a, b, c), exact(a, b, c); got != want {
			t.Fatalf("fma32(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
	for range 50000 {
		check(anyFloat(rng, 30), anyFloat(rng, 30), anyFloat(rng, 60))
		check(anyFloat(rng, 10), anyFloat(rng, 10)*0x1p-70, anyFloat(rng, 10)*0x1p-70*0x1p-70) // subnormal sums
		// 1 + 2^-24 is half-way between float32s; a speck beyond must decide.
		check(1+float32(rng.IntN(8))*0x1p-23, 0x1p-24, float32(rng.IntN(1<<20)))
		check(0x1.000002p0, 0x1.fffffep-25, 1)
	}
}

func TestHalvesConvertExactly(t *testing.T) {
	for h := range 1 << 16 {
		if h&0x7c00 == 0x7c00 {
			continue // infinities and NaNs: no weight is one
		}
		if got, want := halfToFloat(uint16(h)), decodeHalf(uint16(h)); float64(got) != want {
			t.Fatalf("half %#x is %g, want %g", h, got, want)
		}
		if back := floatToHalf(halfToFloat(uint16(h))); back != uint16(h) {
			t.Fatalf("half %#x comes back as %#x", h, back)
		}
	}
}

func TestBfloatsRoundToNearestEven(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0xbf807fff, 0xbf80}, {0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}} {
		if got := floatToBfloat(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("%#x rounds to %#x, want %#x", c.in, got, c.want)
		}
	}
}

func TestExpIsAccurate(t *testing.T) {
	for x := float32(-86); x < 88; x += 0.00313 {
		if got, want := float64(exp32(x)), math.Exp(float64(x)); math.Abs(got/want-1) > 2e-7 {
			t.Fatalf("exp(%g) = %g, want %g", x, got, want)
		}
	}
	if exp32(float32(math.Inf(-1))) != 0 || exp32(-1000) != 0 || exp32(0) != 1 {
		t.Error("exp of minus infinity, -1000 or 0")
	}
}

func skipWithoutVectors(t *testing.T) {
	if len(hostKernels()) == 1 {
		t.Skip("this host or build has no vector kernels: there is nothing to compare")
	}
}

// all runs f with all kernels that the host has and wants the same bits.
func all(t *testing.T, what string, f func() []float32) {
	t.Helper()
	best := kernel
	defer func() { kernel = best }()
	kernel = portable
	want := f()
	for _, k := range hostKernels() {
		kernel = k
		for i, got := range f() {
			if math.Float32bits(got) != math.Float32bits(want[i]) {
				t.Fatalf("%s: element %d is %x with %s kernels and %x without", what, i, got, k.name, want[i])
			}
		}
	}
}

func TestVectorKernelsGiveThePlainKernelsBits(t *testing.T) {
	skipWithoutVectors(t)
	rng := trial.Rand(t)
	fill := func(n, exponents int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = anyFloat(rng, exponents)
		}
		return v
	}
	for range 40 {
		k, rows, lda, ldb, ldc := 1+rng.IntN(70), 1+rng.IntN(15), 70+rng.IntN(9), lanes+rng.IntN(9), lanes+rng.IntN(9)
		a, b, c := fill(rows*lda, 12), fill(k*ldb, 12), fill(rows*ldc, 12)
		all(t, "outer", func() []float32 {
			out := append([]float32(nil), c...)
			kernel.outer(out, ldc, a, lda, b, ldb, k, rows)
			return out
		})
		for kind := range formats {
			cols := 32 * (1 + rng.IntN(5))
			data, _ := randomTensor(rng, kind, 1, 80, uint64(cols))
			w, err := newMatrix(kind, 80, cols, data.data, nil)
			if err != nil {
				t.Fatal(err)
			}
			from := 32 * rng.IntN(cols/32)
			all(t, kind, func() []float32 {
				out := make([]float32, (cols-from)*lanes)
				kernel.unpack(out, w.format, w.panel(1), from, cols)
				return out
			})
		}
		for _, kind := range []string{"Q4_1", "Q4_0", "Q8_0"} {
			cols := 32 * (1 + rng.IntN(5))
			data, _ := randomTensor(rng, kind, 1, 64, uint64(cols))
			w, err := newMatrix(kind, 64, cols, data.data, nil)
			if err != nil {
				t.Fatal(err)
			}
			x := fill(cols, 12)
			all(t, kind+" at once", func() []float32 {
				out, weights := append([]float32(nil), c[:lanes]...), make([]float32, cols*lanes)
				if !kernel.outerUnpack(out, x, w.format, w.panel(0), cols) {
					kernel.unpack(weights, w.format, w.panel(0), 0, cols)
					kernel.outer(out, lanes, x, cols, weights, lanes, cols, 1)
				}
				return out
			})
		}
		raw := make([]uint16, 64*80)
		for i := range raw {
			raw[i] = floatToBfloat(anyFloat(rng, 30))
		}
		n := []int{1, 16, 17, 48, 64}[rng.IntN(5)]
		all(t, "widen", func() []float32 {
			out := make([]float32, 64*70)
			kernel.widen(out, 70, raw, 80, 64, n)
			return out
		})
		x, y := fill(100, 6), fill(100, 6)
		all(t, "silu", func() []float32 {
			out := make([]float32, 100)
			kernel.silu(out, x, y)
			return out
		})
		scores := fill(96, 6)
		for i := 50; i < 96; i++ {
			scores[i] = float32(math.Inf(-1))
		}
		all(t, "softmax", func() []float32 {
			out := append([]float32(nil), scores...)
			return append(out, kernel.softmax(out))
		})
	}
}

// The whole model, with all formats of weights.
func TestAllKernelsComputeTheSameModel(t *testing.T) {
	skipWithoutVectors(t)
	rng := trial.Rand(t)
	tokens := make([]uint32, 12)
	for i := range tokens {
		tokens[i] = rng.Uint32N(100)
	}
	for name, s := range specs {
		m, _ := s.build(t, rng)
		all(t, name, func() []float32 {
			logits, _ := alone(t, m, 16, tokens)
			return logits[len(tokens)-1]
		})
	}
}

func TestPackedMatricesKeepTheirWeights(t *testing.T) {
	rng := trial.Rand(t)
	for kind, format := range formats {
		const rows, cols = 70, 96
		data, want := randomTensor(rng, kind, 1, rows, cols)
		w, err := newMatrix(kind, rows, cols, data.data, func(row int) int { return rows - 1 - row })
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, cols)
		for row := range rows {
			w.row(got, row)
			for k, x := range got {
				if x != float32(want[(rows-1-row)*cols+k]) {
					t.Fatalf("%s as format %d: weight (%d, %d) is %g, want %g", kind, format, row, k, x, want[(rows-1-row)*cols+k])
				}
			}
		}
	}
	if _, err := newMatrix("Q4_K", 1, 256, make([]byte, 144), nil); err == nil {
		t.Error("a Q4_K matrix was accepted")
	}
}
