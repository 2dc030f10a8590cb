package llama

import (
	"fmt"
	"math"
)

// Rope says how positions rotate queries and keys. Its JSON is config.json's.
type Rope struct {
	Theta   float64 `json:"rope_theta"`
	Scaling string  `json:"rope_type"` // "", "default", "none", "linear", "llama3" or "yarn"
	Factor  float64 `json:"factor"`
	// LowFreq and HighFreq bound llama3's band of wavelengths.
	LowFreq         float64 `json:"low_freq_factor"`
	HighFreq        float64 `json:"high_freq_factor"`
	OriginalContext int     `json:"original_max_position_embeddings"`
	// Attention scales cosines and sines under yarn; 0 means its default.
	Attention float64 `json:"attention_factor"`
	BetaFast  float64 `json:"beta_fast"`
	BetaSlow  float64 `json:"beta_slow"`
}

func (r *Rope) validate() error {
	if !(r.Theta > 1) || math.IsInf(r.Theta, 0) {
		return fmt.Errorf("rope theta is %g", r.Theta)
	}
	if !(r.Factor > 0) {
		return fmt.Errorf("rope scaling factor is %g", r.Factor)
	}
	switch r.Scaling {
	case "", "default", "none", "linear":
	case "llama3":
		if !(r.LowFreq > 0) || !(r.HighFreq > r.LowFreq) || r.OriginalContext <= 0 {
			return fmt.Errorf("llama3 rope scaling with frequencies %g to %g of context %d", r.LowFreq, r.HighFreq, r.OriginalContext)
		}
	case "yarn":
		if r.OriginalContext <= 0 {
			return fmt.Errorf("yarn rope scaling without the original context length")
		}
	default:
		return fmt.Errorf("rope scaling %q is not supported (supported: linear, llama3, yarn)", r.Scaling)
	}
	return nil
}

// frequencies is the angle per position of each pair of dimensions, and the
// factor on cosines and sines. divisors, if any, come with the weights (GGUF
// stores llama3's scaling in that form).
func (r *Rope) frequencies(headDim int, divisors []float32) (freqs []float64, scale float64) {
	freqs, scale = make([]float64, headDim/2), 1
	for i := range freqs {
		freqs[i] = math.Pow(r.Theta, -2*float64(i)/float64(headDim))
		if divisors != nil {
			freqs[i] /= float64(divisors[i])
		}
	}
	switch r.Scaling {
	case "linear":
		for i := range freqs {
			freqs[i] /= r.Factor
		}
	case "llama3":
		for i, f := range freqs {
			turns := float64(r.OriginalContext) * f / (2 * math.Pi)
			keep := min(1, max(0, (turns-r.LowFreq)/(r.HighFreq-r.LowFreq)))
			freqs[i] = keep*f + (1-keep)*f/r.Factor
		}
	case "yarn":
		dim := func(turns float64) float64 { // the dimension that turns so often within the original context
			return float64(headDim) * math.Log(float64(r.OriginalContext)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
		}
		low := max(0, math.Floor(dim(r.BetaFast)))
		high := min(float64(headDim-1), math.Ceil(dim(r.BetaSlow)))
		if low == high {
			high += 0.001
		}
		for i, f := range freqs {
			stretch := min(1, max(0, (float64(i)-low)/(high-low)))
			freqs[i] = (1-stretch)*f + stretch*f/r.Factor
		}
		if scale = r.Attention; scale == 0 {
			scale = 1
			if r.Factor > 1 {
				scale = 0.1*math.Log(r.Factor) + 1
			}
		}
	}
	return freqs, scale
}

// rotations holds, per position, the cosines and then the sines of every pair.
// It grows to the longest position seen: a model's full context may be far more
// than anyone asks for.
type rotations struct {
	freqs []float64
	scale float64
	table []float32
}

func (r *rotations) grow(positions int) {
	half := len(r.freqs)
	for pos := len(r.table) / (2 * half); pos < positions; pos++ {
		at := len(r.table)
		r.table = append(r.table, make([]float32, 2*half)...)
		for i, f := range r.freqs {
			sin, cos := math.Sincos(float64(pos) * f)
			r.table[at+i], r.table[at+half+i] = float32(cos*r.scale), float32(sin*r.scale)
		}
	}
}

// rotate turns one head's vector in place to its position.
func (r *rotations) rotate(v []float32, pos int) {
	half := len(r.freqs)
	cos := r.table[2*half*pos:][:half]
	sin := r.table[2*half*pos+half:][:half]
	lo, hi := v[:half], v[half:2*half]
	for i, c := range cos {
		s, a, b := sin[i], lo[i], hi[i]
		// The conversions forbid fusing, so that every host rounds alike.
		lo[i] = float32(a*c) - float32(b*s)
		hi[i] = float32(b*c) + float32(a*s)
	}
}
