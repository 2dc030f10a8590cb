//go:build goexperiment.simd && amd64

package llama

import "simd/archsimd"

// streamSum reads v once, as fast as loads go.
func streamSum(v []float32, s *scratch) {
	var a, b, c, d vec
	p := ptr(&v[0])
	for i := 0; i < 4*len(v); i += 256 {
		a, b = a.Add(load(p, i)), b.Add(load(p, i+64))
		c, d = c.Add(load(p, i+128)), d.Add(load(p, i+192))
	}
	store(a.Add(b).Add(c.Add(d)), ptr(&s.weights[0]), 0)
}

// fmaRegisters does n times 64 multiply-adds on registers.
func fmaRegisters(n int) {
	x, y := archsimd.BroadcastFloat32x16(0.999), archsimd.BroadcastFloat32x16(0.001)
	a, b, c, d := x, x, x, x
	e, f, g, h := x, x, x, x
	i, j := x, x
	for range n / 5 * 2 {
		a, b, c, d, e = a.MulAdd(x, y), b.MulAdd(x, y), c.MulAdd(x, y), d.MulAdd(x, y), e.MulAdd(x, y)
		f, g, h, i, j = f.MulAdd(x, y), g.MulAdd(x, y), h.MulAdd(x, y), i.MulAdd(x, y), j.MulAdd(x, y)
	}
	v := a.Add(b).Add(c).Add(d).Add(e).Add(f).Add(g).Add(h).Add(i).Add(j)
	sink.Add(uint64(v.AsInt32x16().ToMask().ToBits()))
}
