//go:build goexperiment.simd && amd64

package tokenizer

import "simd/archsimd"

var hasAVX512 = archsimd.X86.AVX512()

// classify fills m from the 64 bytes of b.
func (m *masks) classify(b []byte) {
	if !hasAVX512 {
		m.classifyPortably(b)
		return
	}
	x := archsimd.LoadUint8x64((*[window]byte)(b))
	within := func(x archsimd.Uint8x64, lo, hi uint8) uint64 {
		return x.Sub(archsimd.BroadcastUint8x64(lo)).LessEqual(archsimd.BroadcastUint8x64(hi - lo)).ToBits()
	}
	is := func(c uint8) uint64 { return x.Equal(archsimd.BroadcastUint8x64(c)).ToBits() }
	lower := within(x, 'a', 'z')
	m.upper = within(x, 'A', 'Z')
	m.letter = lower | m.upper
	m.number = within(x, '0', '9')
	m.blank = is(' ')
	m.space = within(x, '\t', '\r') | m.blank
	m.newline = is('\n') | is('\r')
	m.quote, m.slash = is('\''), is('/')
	m.foreign = within(x, 0x80, 0xFF)
	m.other = ^(m.letter | m.number | m.space | m.foreign)
	archsimd.ClearAVXUpperBits()
}
