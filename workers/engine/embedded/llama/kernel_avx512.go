//go:build goexperiment.simd && amd64

package llama

import (
	"simd/archsimd"
	"unsafe"
)

var avx512 = vectors{
	outer: outer, widen: widen,
	unpackQ8: unpackQ8, unpackQ4: unpackQ4,
	outerQ8: outerQ8, outerQ4: outerQ4,
}

type (
	vec  = archsimd.Float32x16
	ivec = archsimd.Uint32x16
)

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

//go:nocheckptr
func outer(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k, rows int) {
	for ; rows >= 6; rows -= 6 {
		outer6(c, ldc, a, lda, b, ldb, k)
		c, a = unsafe.Add(c, 6*ldc), unsafe.Add(a, 6*lda)
	}
	for ; rows >= 2; rows -= 2 {
		outer2(c, unsafe.Add(c, ldc), a, unsafe.Add(a, lda), b, ldb, k)
		c, a = unsafe.Add(c, 2*ldc), unsafe.Add(a, 2*lda)
	}
	if rows > 0 {
		outer1(c, a, b, ldb, k)
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

func widen(out, in ptr, n int) {
	for i := 0; i < 2*n; i += 32 {
		store(loadHalves(in, i).ShiftAllLeft(16).AsFloat32x16(), out, 2*i)
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
	q := archsimd.LoadUint8x16((*[16]uint8)(unsafe.Add(p, offset))).ExtendToUint32()
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
