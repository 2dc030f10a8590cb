//go:build goexperiment.simd && amd64

package llama

import (
	"simd/archsimd"
	"unsafe"
)

// avx2 has half of AVX-512's width and half of its registers, so it works on a
// quarter of a panel at a time: two vectors of 8 rows.
var avx2 = vectors{
	outer: outerAVX2, widen: widenAVX2,
	unpackQ8: unpackQ8AVX2, unpackQ4: unpackQ4AVX2,
	outerQ8: outerQ8AVX2, outerQ4: outerQ4AVX2,
}

const (
	quarters   = 4
	quarterF32 = 4 * lanes / quarters // bytes of a quarter's float32s
	quarterF16 = 2 * lanes / quarters // bytes of a quarter's scales
	quarterQ   = lanes / quarters     // bytes of a quarter's quants
)

//go:nocheckptr
func outerAVX2(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k, rows int) {
	for ; rows >= 6; rows -= 6 {
		for i := range quarters {
			outer6x16(unsafe.Add(c, i*quarterF32), ldc, a, lda, unsafe.Add(b, i*quarterF32), ldb, k)
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

func widenAVX2(out, in ptr, n int) {
	for i := 0; i < 2*n; i += 16 {
		store8(loadHalves8(in, i).ShiftLeft(archsimd.BroadcastUint32x8(16)).AsFloat32x8(), out, 2*i)
	}
}

// signed8 are 8 bytes, of 16 that it loads.
func signed8(p ptr, offset int) vec8 {
	return archsimd.LoadInt8x16((*[16]int8)(unsafe.Add(p, offset))).ExtendLo8ToInt32().ConvertToFloat32()
}

// nibbles8 are the low and the high 4 bits of 8 bytes, of 16 that it loads.
func nibbles8(p ptr, offset int) (low, high vec8) {
	q := archsimd.LoadUint8x16((*[16]uint8)(unsafe.Add(p, offset))).ExtendLo8ToUint32()
	low = q.And(archsimd.BroadcastUint32x8(15)).AsInt32x8().ConvertToFloat32()
	return low, q.ShiftRight(archsimd.BroadcastUint32x8(4)).AsInt32x8().ConvertToFloat32()
}

//go:nocheckptr
func unpackQ8AVX2(out, in ptr) {
	for i := range quarters {
		d, e := half8(loadHalves8(in, i*quarterF16)), half8(loadHalves8(in, i*quarterF16+16))
		q, dst := unsafe.Add(in, 2*lanes+i*quarterQ), unsafe.Add(out, i*quarterF32)
		for range quantBlock {
			store8(signed8(q, 0).Mul(d), dst, 0)
			store8(signed8(q, 8).Mul(e), dst, 32)
			q, dst = unsafe.Add(q, lanes), unsafe.Add(dst, 4*lanes)
		}
	}
}

//go:nocheckptr
func unpackQ4AVX2(out, in ptr) {
	for i := range quarters {
		d, e := half8(loadHalves8(in, i*quarterF16)), half8(loadHalves8(in, i*quarterF16+16))
		m, n := half8(loadHalves8(in, 2*lanes+i*quarterF16)), half8(loadHalves8(in, 2*lanes+i*quarterF16+16))
		q, dst := unsafe.Add(in, 4*lanes+i*quarterQ), unsafe.Add(out, i*quarterF32)
		for range quantBlock / 2 {
			low, high := nibbles8(q, 0)
			store8(low.MulAdd(d, m), dst, 0)
			store8(high.MulAdd(d, m), dst, 4*lanes)
			low, high = nibbles8(q, 8)
			store8(low.MulAdd(e, n), dst, 32)
			store8(high.MulAdd(e, n), dst, 4*lanes+32)
			q, dst = unsafe.Add(q, lanes), unsafe.Add(dst, 8*lanes)
		}
	}
}

//go:nocheckptr
func outerQ8AVX2(c, a, in ptr, blocks int) {
	for range blocks {
		for i := range quarters {
			d, e := half8(loadHalves8(in, i*quarterF16)), half8(loadHalves8(in, i*quarterF16+16))
			q, x, dst := unsafe.Add(in, 2*lanes+i*quarterQ), a, unsafe.Add(c, i*quarterF32)
			c0, c1 := load8(dst, 0), load8(dst, 32)
			for range quantBlock {
				y := spread8(x, 0)
				c0, c1 = signed8(q, 0).Mul(d).MulAdd(y, c0), signed8(q, 8).Mul(e).MulAdd(y, c1)
				q, x = unsafe.Add(q, lanes), unsafe.Add(x, 4)
			}
			store8(c0, dst, 0)
			store8(c1, dst, 32)
		}
		in, a = unsafe.Add(in, fmtQ8.bytesPer(quantBlock)), unsafe.Add(a, 4*quantBlock)
	}
}

//go:nocheckptr
func outerQ4AVX2(c, a, in ptr, blocks int) {
	for range blocks {
		for i := range quarters {
			d, e := half8(loadHalves8(in, i*quarterF16)), half8(loadHalves8(in, i*quarterF16+16))
			m, n := half8(loadHalves8(in, 2*lanes+i*quarterF16)), half8(loadHalves8(in, 2*lanes+i*quarterF16+16))
			q, x, dst := unsafe.Add(in, 4*lanes+i*quarterQ), a, unsafe.Add(c, i*quarterF32)
			c0, c1 := load8(dst, 0), load8(dst, 32)
			for range quantBlock / 2 {
				y, z := spread8(x, 0), spread8(x, 4)
				low, high := nibbles8(q, 0)
				c0 = high.MulAdd(d, m).MulAdd(z, low.MulAdd(d, m).MulAdd(y, c0))
				low, high = nibbles8(q, 8)
				c1 = high.MulAdd(e, n).MulAdd(z, low.MulAdd(e, n).MulAdd(y, c1))
				q, x = unsafe.Add(q, lanes), unsafe.Add(x, 8)
			}
			store8(c0, dst, 0)
			store8(c1, dst, 32)
		}
		in, a = unsafe.Add(in, fmtQ4.bytesPer(quantBlock)), unsafe.Add(a, 4*quantBlock)
	}
}
