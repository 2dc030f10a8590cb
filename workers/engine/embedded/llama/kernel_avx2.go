//go:build goexperiment.simd && amd64

package llama

import (
	"simd/archsimd"
	"unsafe"
)

// The kernels of this file are for hosts with AVX2 and FMA but not AVX-512. Half
// the width in half the registers: quantised panels are done in two halves.

type vec8 = archsimd.Float32x8

func load8(p ptr, offset int) vec8 {
	return archsimd.LoadFloat32x8((*[8]float32)(unsafe.Add(p, offset)))
}

func store8(v vec8, p ptr, offset int) { v.Store((*[8]float32)(unsafe.Add(p, offset))) }

func spread8(p ptr, offset int) vec8 {
	return archsimd.BroadcastFloat32x8(*(*float32)(unsafe.Add(p, offset)))
}

func loadHalves8(p ptr, offset int) archsimd.Uint32x8 {
	return archsimd.LoadUint16x8((*[8]uint16)(unsafe.Add(p, offset))).ExtendToUint32()
}

//go:nocheckptr
func outerAVX2(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k, rows int) {
	for ; rows >= 6; rows -= 6 {
		for col := 0; col < 4*lanes; col += 64 {
			outer6x16(unsafe.Add(c, col), ldc, a, lda, unsafe.Add(b, col), ldb, k)
		}
		c, a = unsafe.Add(c, 6*ldc), unsafe.Add(a, 6*lda)
	}
	for range rows {
		outer1x64(c, a, b, ldb, k)
		c, a = unsafe.Add(c, ldc), unsafe.Add(a, lda)
	}
}

// outer6x16 is outer6 on a quarter of a panel.
//
//go:noescape
func outer6x16(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k int)

//go:nocheckptr
func outer1x64(c, a, b ptr, ldb, k int) {
	c0, c1, c2, c3 := load8(c, 0), load8(c, 32), load8(c, 64), load8(c, 96)
	c4, c5, c6, c7 := load8(c, 128), load8(c, 160), load8(c, 192), load8(c, 224)
	for i := 0; i < 4*k; i += 4 {
		y := spread8(a, i)
		c0, c1 = load8(b, 0).MulAdd(y, c0), load8(b, 32).MulAdd(y, c1)
		c2, c3 = load8(b, 64).MulAdd(y, c2), load8(b, 96).MulAdd(y, c3)
		c4, c5 = load8(b, 128).MulAdd(y, c4), load8(b, 160).MulAdd(y, c5)
		c6, c7 = load8(b, 192).MulAdd(y, c6), load8(b, 224).MulAdd(y, c7)
		b = unsafe.Add(b, ldb)
	}
	store8(c0, c, 0)
	store8(c1, c, 32)
	store8(c2, c, 64)
	store8(c3, c, 96)
	store8(c4, c, 128)
	store8(c5, c, 160)
	store8(c6, c, 192)
	store8(c7, c, 224)
}

func half8(h archsimd.Uint32x8) vec8 {
	f := h.And(archsimd.BroadcastUint32x8(0x7fff)).ShiftAllLeft(13).AsFloat32x8()
	f = f.Mul(archsimd.BroadcastFloat32x8(0x1p112))
	sign := h.And(archsimd.BroadcastUint32x8(0x8000)).ShiftAllLeft(16)
	return f.AsUint32x8().Or(sign).AsFloat32x8()
}

func scales8(in ptr, offset int) (a, b, c, d vec8) {
	return half8(loadHalves8(in, offset)), half8(loadHalves8(in, offset+16)),
		half8(loadHalves8(in, offset+32)), half8(loadHalves8(in, offset+48))
}

func signed8(p ptr, offset int) vec8 {
	return archsimd.LoadInt8x16((*[16]int8)(unsafe.Add(p, offset))).ExtendLo8ToInt32().ConvertToFloat32()
}

func nibbles8(p ptr, offset int) (low, high vec8) {
	q := archsimd.LoadUint8x16((*[16]uint8)(unsafe.Add(p, offset))).ExtendLo8ToUint32()
	low = q.And(archsimd.BroadcastUint32x8(15)).AsInt32x8().ConvertToFloat32()
	return low, q.ShiftAllRight(4).AsInt32x8().ConvertToFloat32()
}

//go:nocheckptr
func unpackQ8AVX2(out, in ptr, side int) {
	d0, d1, d2, d3 := scales8(in, side*lanes)
	in, out = unsafe.Add(in, 2*lanes+side*lanes/2), unsafe.Add(out, side*2*lanes)
	for range quantBlock {
		store8(signed8(in, 0).Mul(d0), out, 0)
		store8(signed8(in, 8).Mul(d1), out, 32)
		store8(signed8(in, 16).Mul(d2), out, 64)
		store8(signed8(in, 24).Mul(d3), out, 96)
		in, out = unsafe.Add(in, lanes), unsafe.Add(out, 4*lanes)
	}
}

//go:nocheckptr
func unpackQ4AVX2(out, in ptr, side int) {
	d0, d1, d2, d3 := scales8(in, side*lanes)
	m0, m1, m2, m3 := scales8(in, 2*lanes+side*lanes)
	in, out = unsafe.Add(in, 4*lanes+side*lanes/2), unsafe.Add(out, side*2*lanes)
	put := func(q, r, d, m vec8, at int) {
		store8(q.MulAdd(d, m), out, at)
		store8(r.MulAdd(d, m), out, at+4*lanes)
	}
	for range quantBlock / 2 {
		q, r := nibbles8(in, 0)
		put(q, r, d0, m0, 0)
		q, r = nibbles8(in, 8)
		put(q, r, d1, m1, 32)
		q, r = nibbles8(in, 16)
		put(q, r, d2, m2, 64)
		q, r = nibbles8(in, 24)
		put(q, r, d3, m3, 96)
		in, out = unsafe.Add(in, lanes), unsafe.Add(out, 8*lanes)
	}
}

//go:nocheckptr
func outerQ8AVX2(c, a, in ptr, side int) {
	d0, d1, d2, d3 := scales8(in, side*lanes)
	c, in = unsafe.Add(c, side*2*lanes), unsafe.Add(in, 2*lanes+side*lanes/2)
	c0, c1, c2, c3 := load8(c, 0), load8(c, 32), load8(c, 64), load8(c, 96)
	for range quantBlock {
		x := spread8(a, 0)
		c0, c1 = signed8(in, 0).Mul(d0).MulAdd(x, c0), signed8(in, 8).Mul(d1).MulAdd(x, c1)
		c2, c3 = signed8(in, 16).Mul(d2).MulAdd(x, c2), signed8(in, 24).Mul(d3).MulAdd(x, c3)
		in, a = unsafe.Add(in, lanes), unsafe.Add(a, 4)
	}
	store8(c0, c, 0)
	store8(c1, c, 32)
	store8(c2, c, 64)
	store8(c3, c, 96)
}

//go:nocheckptr
func outerQ4AVX2(c, a, in ptr, side int) {
	d0, d1, d2, d3 := scales8(in, side*lanes)
	m0, m1, m2, m3 := scales8(in, 2*lanes+side*lanes)
	c, in = unsafe.Add(c, side*2*lanes), unsafe.Add(in, 4*lanes+side*lanes/2)
	c0, c1, c2, c3 := load8(c, 0), load8(c, 32), load8(c, 64), load8(c, 96)
	for range quantBlock / 2 {
		x, y := spread8(a, 0), spread8(a, 4)
		q, r := nibbles8(in, 0)
		c0 = r.MulAdd(d0, m0).MulAdd(y, q.MulAdd(d0, m0).MulAdd(x, c0))
		q, r = nibbles8(in, 8)
		c1 = r.MulAdd(d1, m1).MulAdd(y, q.MulAdd(d1, m1).MulAdd(x, c1))
		q, r = nibbles8(in, 16)
		c2 = r.MulAdd(d2, m2).MulAdd(y, q.MulAdd(d2, m2).MulAdd(x, c2))
		q, r = nibbles8(in, 24)
		c3 = r.MulAdd(d3, m3).MulAdd(y, q.MulAdd(d3, m3).MulAdd(x, c3))
		in, a = unsafe.Add(in, lanes), unsafe.Add(a, 8)
	}
	store8(c0, c, 0)
	store8(c1, c, 32)
	store8(c2, c, 64)
	store8(c3, c, 96)
}
