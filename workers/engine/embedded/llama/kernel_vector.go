//go:build goexperiment.simd && amd64

package llama

import (
	"math"
	"simd/archsimd"
	"slices"
	"unsafe"
)

// hostKernels are the implementations that the host can run, the best first.
func hostKernels() []kernels {
	var all []kernels
	if archsimd.X86.AVX512() {
		all = append(all, avx512.kernels("avx512"))
	}
	if archsimd.X86.AVX2() && archsimd.X86.FMA() {
		all = append(all, avx2.kernels("avx2"))
	}
	return append(all, portable)
}

// What is below serves both widths. Its own vectors are of 8 lanes: where the
// arithmetic is not what takes the time, 16 would be no quicker.

type (
	vec8  = archsimd.Float32x8
	ivec8 = archsimd.Uint32x8
	ptr   = unsafe.Pointer
)

// The kernels check the extent of their slices once and then use pointers: a
// bounds check per load would cost more than the arithmetic. A pointer that has
// been moved past its last load may leave the slice, which nocheckptr permits.
// They end by clearing the registers' upper halves, which would slow down the
// compiler's scalar code.

func load8(p ptr, offset int) vec8 {
	return archsimd.LoadFloat32x8((*[8]float32)(unsafe.Add(p, offset)))
}

func store8(v vec8, p ptr, offset int) { v.Store((*[8]float32)(unsafe.Add(p, offset))) }

func spread8(p ptr, offset int) vec8 {
	return archsimd.BroadcastFloat32x8(*(*float32)(unsafe.Add(p, offset)))
}

func loadHalves8(p ptr, offset int) ivec8 {
	return archsimd.LoadUint16x8((*[8]uint16)(unsafe.Add(p, offset))).ExtendToUint32()
}

// half8 is halfToFloat on 8 lanes. Shifting all lanes by a constant would have
// the compiler load it with an SSE instruction, which stalls older hosts.
func half8(h ivec8) vec8 {
	bc := archsimd.BroadcastUint32x8
	f := h.And(bc(0x7fff)).ShiftLeft(bc(13)).AsFloat32x8().Mul(archsimd.BroadcastFloat32x8(0x1p112))
	return f.AsUint32x8().Or(h.And(bc(0x8000)).ShiftLeft(bc(16))).AsFloat32x8()
}

// vectors are the kernels that depend on the vectors' width. Strides are in
// bytes.
type vectors struct {
	outer              func(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k, rows int)
	widen              func(out, in ptr, n int) // n is a multiple of 16
	unpackQ8, unpackQ4 func(out, in ptr)        // one block of columns
	outerQ8, outerQ4   func(c, a, in ptr, blocks int)
}

func (v *vectors) kernels(name string) kernels {
	return kernels{
		name: name, outer: v.outerChecked, unpack: v.unpack, outerUnpack: v.outerUnpack,
		widen: v.widenRows, silu: silu, softmax: softmax,
	}
}

func (v *vectors) outerChecked(c []float32, ldc int, a []float32, lda int, b []float32, ldb, k, rows int) {
	if k == 0 || rows == 0 {
		return
	}
	_, _, _ = c[(rows-1)*ldc+lanes-1], a[(rows-1)*lda+k-1], b[(k-1)*ldb+lanes-1]
	v.outer(ptr(&c[0]), 4*ldc, ptr(&a[0]), 4*lda, ptr(&b[0]), 4*ldb, k, rows)
	archsimd.ClearAVXUpperBits()
}

//go:nocheckptr
func (v *vectors) widenRows(dst []float32, ldd int, src []uint16, lds, rows, n int) {
	if n%16 != 0 {
		widenPlain(dst, ldd, src, lds, rows, n)
		return
	}
	if rows == 0 || n == 0 {
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+n-1]
	out, in := ptr(&dst[0]), ptr(&src[0])
	for range rows {
		v.widen(out, in, n)
		out, in = unsafe.Add(out, 4*ldd), unsafe.Add(in, 2*lds)
	}
	archsimd.ClearAVXUpperBits()
}

//go:nocheckptr
func (v *vectors) unpack(dst []float32, f format, panel []byte, from, to int) {
	if from == to || f == fmtF32 {
		unpackPlain(dst, f, panel, from, to)
		return
	}
	n := (to - from) * lanes
	_, _ = dst[n-1], panel[f.bytesPer(to)-1]
	out, in := ptr(&dst[0]), ptr(&panel[f.bytesPer(from)])
	switch f {
	case fmtF16:
		for i := 0; i < 2*n; i += 16 {
			store8(half8(loadHalves8(in, i)), out, 2*i)
		}
	case fmtBF16:
		v.widen(out, in, n)
	default:
		block := v.unpackQ8
		if f == fmtQ4 {
			block = v.unpackQ4
		}
		for range (to - from) / quantBlock {
			block(out, in)
			in, out = unsafe.Add(in, f.bytesPer(quantBlock)), unsafe.Add(out, quantBlock*lanes*4)
		}
	}
	archsimd.ClearAVXUpperBits()
}

func (v *vectors) outerUnpack(c, a []float32, f format, panel []byte, cols int) bool {
	if f != fmtQ4 && f != fmtQ8 {
		return false
	}
	_, _, _ = c[lanes-1], a[cols-1], panel[f.bytesPer(cols)-1]
	outer := v.outerQ8
	if f == fmtQ4 {
		outer = v.outerQ4
	}
	outer(ptr(&c[0]), ptr(&a[0]), ptr(&panel[0]), cols/quantBlock)
	archsimd.ClearAVXUpperBits()
	return true
}

// exp8 is exp32 on 8 lanes.
func exp8(x vec8) vec8 {
	bc := archsimd.BroadcastFloat32x8
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
	p = p.AsUint32x8().Add(t.AsUint32x8().ShiftLeft(archsimd.BroadcastUint32x8(23))).AsFloat32x8()
	return p.Masked(keep)
}

func silu(dst, gate, up []float32) {
	n := len(gate) &^ 7
	var zero vec8
	one := archsimd.BroadcastFloat32x8(1)
	for i := 0; i < n; i += 8 {
		g := archsimd.LoadFloat32x8Slice(gate[i:])
		v := g.Div(one.Add(exp8(zero.Sub(g)))).Mul(archsimd.LoadFloat32x8Slice(up[i:]))
		v.StoreSlice(dst[i:])
	}
	archsimd.ClearAVXUpperBits()
	siluPlain(dst[n:], gate[n:], up[n:])
}

func softmax(s []float32) float32 {
	tops := archsimd.BroadcastFloat32x8(float32(math.Inf(-1)))
	for i := 0; i+8 <= len(s); i += 8 {
		tops = tops.Max(archsimd.LoadFloat32x8Slice(s[i:]))
	}
	var lane [16]float32
	tops.StoreSlice(lane[:])
	top := slices.Max(lane[:8])
	var lo, hi vec8
	tops = archsimd.BroadcastFloat32x8(top)
	for i := 0; i+16 <= len(s); i += 16 {
		e := exp8(archsimd.LoadFloat32x8Slice(s[i:]).Sub(tops))
		f := exp8(archsimd.LoadFloat32x8Slice(s[i+8:]).Sub(tops))
		e.StoreSlice(s[i:])
		f.StoreSlice(s[i+8:])
		lo, hi = lo.Add(e), hi.Add(f)
	}
	lo.StoreSlice(lane[:])
	hi.StoreSlice(lane[8:])
	archsimd.ClearAVXUpperBits()
	return sumTree(&lane)
}
