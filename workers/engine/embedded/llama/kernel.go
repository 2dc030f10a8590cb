package llama

import "math"

// kernels is one implementation of the arithmetic. All give the same bits.
type kernels struct {
	name string
	// outer adds a times b to c: for rows of a (k numbers each) and 64 columns,
	// c[r][j] becomes fma(a[r][k-1], b[k-1][j], ... fma(a[r][0], b[0][j], c[r][j])).
	outer func(c []float32, ldc int, a []float32, lda int, b []float32, ldb, k, rows int)
	// unpack writes columns from to to of a panel as float32, 64 rows each.
	unpack func(dst []float32, f format, panel []byte, from, to int)
	// outerUnpack is unpack and outer for a single row without the memory between
	// them: decoding is bound by how fast weights come in. It does nothing and
	// returns false for formats that do not gain from it.
	outerUnpack func(c, a []float32, f format, panel []byte, cols int) bool
	// widen converts rows of n bfloat16s to float32.
	widen func(dst []float32, ldd int, src []uint16, lds, rows, n int)
	// silu writes g/(1+e^-g) * u.
	silu func(dst, gate, up []float32)
	// softmax turns scores into e^(s-max), in place, and returns their sum. The
	// length is a multiple of 16; minus infinity becomes 0.
	softmax func(s []float32) float32
}

// kernel is what this process computes with. A variable, so that tests compare.
var kernel = hostKernels()[0]

// Kernels names the kernels in use: "avx512", "avx2" or "portable".
func Kernels() string { return kernel.name }

// portable is plain Go. It defines the arithmetic.
var portable = kernels{
	name: "portable", outer: outerPlain, unpack: unpackPlain, widen: widenPlain, silu: siluPlain, softmax: softmaxPlain,
	outerUnpack: func(c, a []float32, f format, panel []byte, cols int) bool { return false },
}

// fma32 is a*b + c, rounded once: the product is exact in float64, and rounding
// their sum twice is right unless it is a tie of float32s or a subnormal one.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	if u := math.Float64bits(s); u&(1<<29-1) == 1<<28 || u<<1 < (1023-126+1)<<53 {
		return fma32Careful(p, float64(c), s)
	}
	return float32(s)
}

// fma32Careful makes s, the sum of p and c, odd where it was inexact: rounding
// to float32 then errs on no side.
//
//go:noinline
func fma32Careful(p, c, s float64) float32 {
	t := s - p
	e := (p - (s - t)) + (c - t)
	if u := math.Float64bits(s); e != 0 && u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}

func outerPlain(c []float32, ldc int, a []float32, lda int, b []float32, ldb, k, rows int) {
	for r := range rows {
		dst, x := c[r*ldc:][:lanes], a[r*lda:][:k]
		for i, xi := range x {
			for j, w := range b[i*ldb:][:lanes] {
				dst[j] = fma32(w, xi, dst[j])
			}
		}
	}
}

func unpackPlain(dst []float32, f format, panel []byte, from, to int) {
	for k := from; k < to; k++ {
		for lane := range lanes {
			dst[(k-from)*lanes+lane] = f.at(panel, k, lane)
		}
	}
}

func widenPlain(dst []float32, ldd int, src []uint16, lds, rows, n int) {
	for r := range rows {
		out := dst[r*ldd:][:n]
		for i, b := range src[r*lds:][:n] {
			out[i] = bfloatToFloat(b)
		}
	}
}

const (
	expMin   = -86 // below, exp32 is 0: the smallest results stay normal numbers
	expMax   = 88
	expMagic = 0x1.8p23 // adding it rounds to an integer, left in the low bits
	log2e    = math.Log2E
	ln2Hi    = 0.693359375
	ln2Lo    = -2.12194440e-4
	exp0     = 5.0000001201e-1
	exp1     = 1.6666665459e-1
	exp2     = 4.1665795894e-2
	exp3     = 8.3334519073e-3
	exp4     = 1.3981999507e-3
	exp5     = 1.9875691500e-4
)

// exp32 is e^x to about one unit in the last place (Cephes' polynomial).
func exp32(x float32) float32 {
	if !(x >= expMin) {
		return 0
	}
	x = min(x, expMax)
	t := fma32(x, log2e, expMagic)
	n := t - expMagic
	r := fma32(n, -ln2Hi, x)
	r = fma32(n, -ln2Lo, r)
	p := fma32(exp5, r, exp4)
	p = fma32(p, r, exp3)
	p = fma32(p, r, exp2)
	p = fma32(p, r, exp1)
	p = fma32(p, r, exp0)
	p = fma32(p, r*r, r)
	p++
	return math.Float32frombits(math.Float32bits(p) + math.Float32bits(t)<<23)
}

func siluPlain(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = float32(g/(1+exp32(0-g))) * up[i]
	}
}

func softmaxPlain(s []float32) float32 {
	top := float32(math.Inf(-1))
	for _, x := range s {
		top = max(top, x)
	}
	var sums [16]float32
	for i, x := range s {
		s[i] = exp32(x - top)
		sums[i%16] += s[i]
	}
	return sumTree(&sums)
}

// sumTree adds 16 lanes in one fixed order.
func sumTree(v *[16]float32) float32 {
	for half := 8; half > 0; half /= 2 {
		for i := range half {
			v[i] += v[i+half]
		}
	}
	return v[0]
}

// rmsNorm writes x / rms(x) * weight.
func rmsNorm(dst, x, weight []float32, eps float64) {
	// Squares of float32s are exact in float64, so a fused multiply-add changes
	// nothing; four sums because one would wait for itself.
	var s [4]float64
	n := len(x) &^ 3
	for i := 0; i < n; i += 4 {
		v := x[i : i+4 : i+4]
		s[0] += float64(v[0]) * float64(v[0])
		s[1] += float64(v[1]) * float64(v[1])
		s[2] += float64(v[2]) * float64(v[2])
		s[3] += float64(v[3]) * float64(v[3])
	}
	for _, v := range x[n:] {
		s[0] += float64(v) * float64(v)
	}
	scale := float32(1 / math.Sqrt(((s[0]+s[1])+(s[2]+s[3]))/float64(len(x))+eps))
	weight, dst = weight[:len(x)], dst[:len(x)]
	for i, v := range x {
		dst[i] = float32(v*scale) * weight[i]
	}
}
