//go:build !(goexperiment.simd && amd64)

package llama

func outer(c []float32, ldc int, a []float32, lda int, b []float32, ldb, k, rows int) {
	outerPlain(c, ldc, a, lda, b, ldb, k, rows)
}

func unpack(dst []float32, f format, panel []byte, from, to int) {
	unpackPlain(dst, f, panel, from, to)
}

func outerUnpack(c, a []float32, f format, panel []byte, cols int) bool { return false }

func widen(dst []float32, ldd int, src []uint16, lds, rows, n int) {
	widenPlain(dst, ldd, src, lds, rows, n)
}

func silu(dst, gate, up []float32) { siluPlain(dst, gate, up) }

func softmax(s []float32) float32 { return softmaxPlain(s) }
