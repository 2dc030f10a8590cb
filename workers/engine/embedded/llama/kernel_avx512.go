//go:build goexperiment.simd && amd64

package llama

import (
	"math"
	"simd/archsimd"
	"unsafe"
)

// vectorised says whether the host runs the kernels below. A variable, so that
// tests compare both ways.
var vectorised = archsimd.X86.AVX512()

type (
	vec  = archsimd.Float32x16
	ivec = archsimd.Uint32x16
	ptr  = unsafe.Pointer
)

// The kernels check the extent of their slices once and then use pointers: a
// bounds check per load would cost more than the arithmetic. A pointer that has
// been moved past its last load may leave the slice, which nocheckptr permits.

func load(p ptr, offset int) vec {
	return archsimd.LoadFloat32x16((*[16]float32)(unsafe.Add(p, offset)))
}

func store(v vec, p ptr, offset int) { v.Store((*[16]float32)(unsafe.Add(p, offset))) }

func spread(p ptr, offset int) vec {
	return archsimd.BroadcastFloat32x16(*(*float32)(unsafe.Add(p, offset)))
}

func loadHalves(p ptr, offset int) ivec {
	return archsimd.LoadUint16x16((*[16]uint16)(unsafe.Add(p, offset))).ExtendToUint32()
}

func loadBytes(p ptr, offset int) ivec {
	return archsimd.LoadUint8x16((*[16]uint8)(unsafe.Add(p, offset))).ExtendToUint32()
}

//go:nocheckptr
func outer(c []float32, ldc int, a []float32, lda int, b []float32, ldb, k, rows int) {
	if !vectorised {
		outerPlain(c, ldc, a, lda, b, ldb, k, rows)
		return
	}
	if k == 0 || rows == 0 {
		return
	}
	_, _, _ = c[(rows-1)*ldc+lanes-1], a[(rows-1)*lda+k-1], b[(k-1)*ldb+lanes-1]
	pc, pa, pb := ptr(&c[0]), ptr(&a[0]), ptr(&b[0])
	for ; rows >= 6; rows -= 6 {
		outer6(pc, 4*ldc, pa, 4*lda, pb, 4*ldb, k)
		pc, pa = unsafe.Add(pc, 6*4*ldc), unsafe.Add(pa, 6*4*lda)
	}
	for ; rows >= 2; rows -= 2 {
		outer2(pc, unsafe.Add(pc, 4*ldc), pa, unsafe.Add(pa, 4*lda), pb, 4*ldb, k)
		pc, pa = unsafe.Add(pc, 8*ldc), unsafe.Add(pa, 8*lda)
	}
	if rows > 0 {
		outer1(pc, pa, pb, 4*ldb, k)
	}
}

// outer6 is the workhorse of prefill, in assembly: its 24 accumulators need all
// 32 registers, of which the compiler uses 15. It takes k > 0, strides in bytes.
//
//go:noescape
func outer6(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k int)

// outer2 keeps as many accumulators as the compiler does without spilling.
//
//go:nocheckptr
func outer2(c, d, a, x, b ptr, ldb, k int) {
	c0, c1, c2, c3 := load(c, 0), load(c, 64), load(c, 128), load(c, 192)
	d0, d1, d2, d3 := load(d, 0), load(d, 64), load(d, 128), load(d, 192)
	for i := 0; i < 4*k; i += 4 {
		b0, b1, b2, b3 := load(b, 0), load(b, 64), load(b, 128), load(b, 192)
		y := spread(a, i)
		c0, c1, c2, c3 = b0.MulAdd(y, c0), b1.MulAdd(y, c1), b2.MulAdd(y, c2), b3.MulAdd(y, c3)
		z := spread(x, i)
		d0, d1, d2, d3 = b0.MulAdd(z, d0), b1.MulAdd(z, d1), b2.MulAdd(z, d2), b3.MulAdd(z, d3)
		b = unsafe.Add(b, ldb)
	}
	store(c0, c, 0)
	store(c1, c, 64)
	store(c2, c, 128)
	store(c3, c, 192)
	store(d0, d, 0)
	store(d1, d, 64)
	store(d2, d, 128)
	store(d3, d, 192)
}

//go:nocheckptr
func outer1(c, a, b ptr, ldb, k int) {
	c0, c1, c2, c3 := load(c, 0), load(c, 64), load(c, 128), load(c, 192)
	for i := 0; i < 4*k; i += 4 {
		y := spread(a, i)
		c0, c1 = load(b, 0).MulAdd(y, c0), load(b, 64).MulAdd(y, c1)
		c2, c3 = load(b, 128).MulAdd(y, c2), load(b, 192).MulAdd(y, c3)
		b = unsafe.Add(b, ldb)
	}
	store(c0, c, 0)
	store(c1, c, 64)
	store(c2, c, 128)
	store(c3, c, 192)
}

// half is halfToFloat on 16 lanes.
func half(h ivec) vec {
	f := h.And(archsimd.BroadcastUint32x16(0x7fff)).ShiftAllLeft(13).AsFloat32x16()
	f = f.Mul(archsimd.BroadcastFloat32x16(0x1p112))
	sign := h.And(archsimd.BroadcastUint32x16(0x8000)).ShiftAllLeft(16)
	return f.AsUint32x16().Or(sign).AsFloat32x16()
}

//go:nocheckptr
func unpack(dst []float32, f format, panel []byte, from, to int) {
	if !vectorised || f == fmtF32 {
		unpackPlain(dst, f, panel, from, to)
		return
	}
	if from == to {
		return
	}
	_, _ = dst[(to-from)*lanes-1], panel[f.bytesPer(to)-1]
	out, in := ptr(&dst[0]), ptr(&panel[f.bytesPer(from)])
	switch f {
	case fmtF16:
		for i := 0; i < (to-from)*lanes*2; i += 32 {
			store(half(loadHalves(in, i)), out, 2*i)
		}
	case fmtBF16:
		for i := 0; i < (to-from)*lanes*2; i += 32 {
			store(loadHalves(in, i).ShiftAllLeft(16).AsFloat32x16(), out, 2*i)
		}
	case fmtQ8:
		for range (to - from) / quantBlock {
			unpackQ8(out, in)
			in, out = unsafe.Add(in, fmtQ8.bytesPer(quantBlock)), unsafe.Add(out, quantBlock*lanes*4)
		}
	case fmtQ4:
		for range (to - from) / quantBlock {
			unpackQ4(out, in)
			in, out = unsafe.Add(in, fmtQ4.bytesPer(quantBlock)), unsafe.Add(out, quantBlock*lanes*4)
		}
	}
}

// scales are four vectors of float16s.
func scales(in ptr, offset int) (a, b, c, d vec) {
	return half(loadHalves(in, offset)), half(loadHalves(in, offset+32)), half(loadHalves(in, offset+64)), half(loadHalves(in, offset+96))
}

func signed(p ptr, offset int) vec {
	return archsimd.LoadInt8x16((*[16]int8)(unsafe.Add(p, offset))).ExtendToInt32().ConvertToFloat32()
}

// nibbles are the low and the high 4 bits of 16 bytes.
func nibbles(p ptr, offset int) (low, high vec) {
	q := loadBytes(p, offset)
	low = q.And(archsimd.BroadcastUint32x16(15)).AsInt32x16().ConvertToFloat32()
	return low, q.ShiftAllRight(4).AsInt32x16().ConvertToFloat32()
}

//go:nocheckptr
func unpackQ8(out, in ptr) {
	d0, d1, d2, d3 := scales(in, 0)
	in = unsafe.Add(in, 2*lanes)
	for range quantBlock {
		store(signed(in, 0).Mul(d0), out, 0)
		store(signed(in, 16).Mul(d1), out, 64)
		store(signed(in, 32).Mul(d2), out, 128)
		store(signed(in, 48).Mul(d3), out, 192)
		in, out = unsafe.Add(in, lanes), unsafe.Add(out, 4*lanes)
	}
}

//go:nocheckptr
func unpackQ4(out, in ptr) {
	d0, d1, d2, d3 := scales(in, 0)
	m0, m1, m2, m3 := scales(in, 2*lanes)
	in = unsafe.Add(in, 4*lanes)
	put := func(q, r, d, m vec, at int) {
		store(q.MulAdd(d, m), out, at)
		store(r.MulAdd(d, m), out, at+4*lanes)
	}
	for range quantBlock / 2 {
		q, r := nibbles(in, 0)
		put(q, r, d0, m0, 0)
		q, r = nibbles(in, 16)
		put(q, r, d1, m1, 64)
		q, r = nibbles(in, 32)
		put(q, r, d2, m2, 128)
		q, r = nibbles(in, 48)
		put(q, r, d3, m3, 192)
		in, out = unsafe.Add(in, lanes), unsafe.Add(out, 8*lanes)
	}
}

// outerUnpack is unpack and outer for a single row without the memory between
// them: decoding is bound by how fast weights come in.
func outerUnpack(c, a []float32, f format, panel []byte, cols int) bool {
	if !vectorised || f != fmtQ4 && f != fmtQ8 {
		return false
	}
	_, _, _ = c[lanes-1], a[cols-1], panel[f.bytesPer(cols)-1]
	if f == fmtQ4 {
		outerQ4(ptr(&c[0]), ptr(&a[0]), ptr(&panel[0]), cols/quantBlock)
	} else {
		outerQ8(ptr(&c[0]), ptr(&a[0]), ptr(&panel[0]), cols/quantBlock)
	}
	return true
}

//go:nocheckptr
func outerQ8(c, a, in ptr, blocks int) {
	c0, c1, c2, c3 := load(c, 0), load(c, 64), load(c, 128), load(c, 192)
	for range blocks {
		d0, d1, d2, d3 := scales(in, 0)
		in = unsafe.Add(in, 2*lanes)
		for range quantBlock {
			x := spread(a, 0)
			c0, c1 = signed(in, 0).Mul(d0).MulAdd(x, c0), signed(in, 16).Mul(d1).MulAdd(x, c1)
			c2, c3 = signed(in, 32).Mul(d2).MulAdd(x, c2), signed(in, 48).Mul(d3).MulAdd(x, c3)
			in, a = unsafe.Add(in, lanes), unsafe.Add(a, 4)
		}
	}
	store(c0, c, 0)
	store(c1, c, 64)
	store(c2, c, 128)
	store(c3, c, 192)
}

//go:nocheckptr
func outerQ4(c, a, in ptr, blocks int) {
	c0, c1, c2, c3 := load(c, 0), load(c, 64), load(c, 128), load(c, 192)
	for range blocks {
		d0, d1, d2, d3 := scales(in, 0)
		m0, m1, m2, m3 := scales(in, 2*lanes)
		in = unsafe.Add(in, 4*lanes)
		for range quantBlock / 2 {
			q, r := nibbles(in, 0)
			c0 = r.MulAdd(d0, m0).MulAdd(spread(a, 4), q.MulAdd(d0, m0).MulAdd(spread(a, 0), c0))
			q, r = nibbles(in, 16)
			c1 = r.MulAdd(d1, m1).MulAdd(spread(a, 4), q.MulAdd(d1, m1).MulAdd(spread(a, 0), c1))
			q, r = nibbles(in, 32)
			c2 = r.MulAdd(d2, m2).MulAdd(spread(a, 4), q.MulAdd(d2, m2).MulAdd(spread(a, 0), c2))
			q, r = nibbles(in, 48)
			c3 = r.MulAdd(d3, m3).MulAdd(spread(a, 4), q.MulAdd(d3, m3).MulAdd(spread(a, 0), c3))
			in, a = unsafe.Add(in, lanes), unsafe.Add(a, 8)
		}
	}
	store(c0, c, 0)
	store(c1, c, 64)
	store(c2, c, 128)
	store(c3, c, 192)
}

//go:nocheckptr
func widen(dst []float32, ldd int, src []uint16, lds, rows, n int) {
	if !vectorised || n%16 != 0 {
		widenPlain(dst, ldd, src, lds, rows, n)
		return
	}
	if rows == 0 || n == 0 {
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+n-1]
	out, in := ptr(&dst[0]), ptr(&src[0])
	for range rows {
		for i := 0; i < 2*n; i += 32 {
			store(loadHalves(in, i).ShiftAllLeft(16).AsFloat32x16(), out, 2*i)
		}
		out, in = unsafe.Add(out, 4*ldd), unsafe.Add(in, 2*lds)
	}
}

// exp16 is exp32 on 16 lanes.
func exp16(x vec) vec {
	bc := archsimd.BroadcastFloat32x16
	keep := x.GreaterEqual(bc(expMin))
	x = x.Min(bc(expMax))
	t := x.MulAdd(bc(log2e), bc(expMagic))
	n := t.Sub(bc(expMagic))
	r := n.MulAdd(bc(-ln2Hi), x)
	r = n.MulAdd(bc(-ln2Lo), r)
	p := bc(exp5).MulAdd(r, bc(exp4))
	p = p.MulAdd(r, bc(exp3))
	p = p.MulAdd(r, bc(exp2))
	p = p.MulAdd(r, bc(exp1))
	p = p.MulAdd(r, bc(exp0))
	p = p.MulAdd(r.Mul(r), r)
	p = p.Add(bc(1))
	p = p.AsInt32x16().Add(t.AsInt32x16().ShiftAllLeft(23)).AsFloat32x16()
	return p.Masked(keep)
}

func silu(dst, gate, up []float32) {
	n := len(gate) &^ 15
	if !vectorised {
		n = 0
	}
	var zero vec
	one := archsimd.BroadcastFloat32x16(1)
	for i := 0; i < n; i += 16 {
		g := archsimd.LoadFloat32x16Slice(gate[i:])
		v := g.Div(one.Add(exp16(zero.Sub(g)))).Mul(archsimd.LoadFloat32x16Slice(up[i:]))
		v.StoreSlice(dst[i:])
	}
	siluPlain(dst[n:], gate[n:], up[n:])
}

func softmax(s []float32) float32 {
	if !vectorised {
		return softmaxPlain(s)
	}
	tops := archsimd.BroadcastFloat32x16(float32(math.Inf(-1)))
	for i := 0; i+16 <= len(s); i += 16 {
		tops = tops.Max(archsimd.LoadFloat32x16Slice(s[i:]))
	}
	var lane [16]float32
	tops.Store(&lane)
	top := lane[0]
	for _, x := range lane {
		top = max(top, x)
	}
	var sums vec
	tops = archsimd.BroadcastFloat32x16(top)
	for i := 0; i+16 <= len(s); i += 16 {
		e := exp16(archsimd.LoadFloat32x16Slice(s[i:]).Sub(tops))
		e.StoreSlice(s[i:])
		sums = sums.Add(e)
	}
	sums.Store(&lane)
	return sumTree(&lane)
}
