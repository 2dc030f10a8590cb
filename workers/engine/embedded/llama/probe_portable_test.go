//go:build !(goexperiment.simd && amd64)

package llama

func streamSum(v []float32, s *scratch) {
	var sums [4]float32
	for i := 0; i+4 <= len(v); i += 4 {
		sums[0] += v[i]
		sums[1] += v[i+1]
		sums[2] += v[i+2]
		sums[3] += v[i+3]
	}
	copy(s.weights, sums[:])
}

func fmaRegisters(n int) {
	x := float32(1)
	for range n * lanes {
		x = fma32(x, 0.999, 0.001)
	}
	sink.Add(uint64(x))
}
