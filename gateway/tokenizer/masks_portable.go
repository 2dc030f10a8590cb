//go:build !goexperiment.simd || !amd64

package tokenizer

// classify fills m from the 64 bytes of b.
func (m *masks) classify(b []byte) { m.classifyPortably(b) }
