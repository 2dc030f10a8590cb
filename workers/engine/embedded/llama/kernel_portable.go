//go:build !(goexperiment.simd && amd64)

package llama

func hostKernels() []kernels { return []kernels{portable} }
