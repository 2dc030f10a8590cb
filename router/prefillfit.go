package router

import "math"

// prefillFit learns the three prefill rates by recursive least squares with
// forgetting. Its unknowns are multipliers of a first guess, so that one prior
// and one set of bounds fit a data-centre GPU and a laptop's processor alike.
type prefillFit struct {
	guess [3]float64 // ms; ms per token; ms per attended pair
	mult  [3]float64
	cov   [3][3]float64 // uncertainty of mult
	seen  int
}

const (
	fitForget = 0.99 // an observation's weight falls to 1/e in 100 more
	fitNoise  = 0.05 // the share of a prefill's time that is taken for noise
	fitPrior  = 1.0  // variance of a multiplier at first, and at most
	fitMost   = 20.0 // and the most that it can be
	// fitTrusted observations make the fit good enough to distrust one: beyond
	// fitOutlier times the prediction, either way, it counts as just that.
	fitTrusted = 8
	fitOutlier = 4.0
	// A rate of zero is guessed to be what makes fitTrace of a prefill of
	// fitTokens, so that it can be learned.
	fitTrace  = 0.01
	fitTokens = 1024
)

func newPrefillFit(d Rates) prefillFit {
	f := prefillFit{guess: [3]float64{d.PrefillBaseMS, d.PrefillPerTokenMS, d.PrefillPerTokenContextMS}}
	typical := features(fitTokens, fitTokens)
	whole := dot(f.guess, typical)
	if whole <= 0 {
		whole = 1
	}
	for i, g := range f.guess {
		f.cov[i][i] = fitPrior
		if g > 0 {
			f.mult[i] = 1
		} else {
			f.guess[i] = fitTrace * whole / typical[i]
		}
	}
	return f
}

// features are what the three rates multiply.
func features(tokens, context int) [3]float64 {
	return [3]float64{1, float64(tokens), attended(tokens, context)}
}

func (f *prefillFit) fill(r *Rates) {
	r.PrefillBaseMS = f.guess[0] * f.mult[0]
	r.PrefillPerTokenMS = f.guess[1] * f.mult[1]
	r.PrefillPerTokenContextMS = f.guess[2] * f.mult[2]
}

// observe is one step. Prefills span orders of magnitude, so each counts by its
// relative error.
func (f *prefillFit) observe(tokens, context int, ms float64) {
	if tokens <= 0 || context < tokens || !(ms > 0) || math.IsInf(ms, 0) {
		return
	}
	x := features(tokens, context)
	for i := range x {
		x[i] *= f.guess[i]
	}
	predicted := dot(f.mult, x)
	switch f.seen++; {
	case f.seen == 1 && predicted > 0:
		// The defaults may be those of quite another machine: keep their shape,
		// and take the scale from the first prefill.
		for i := range f.guess {
			f.guess[i] *= ms / predicted
		}
		return
	case f.seen > fitTrusted && predicted > 0:
		ms = min(max(ms, predicted/fitOutlier), predicted*fitOutlier)
	}

	var gain [3]float64
	for i := range gain {
		gain[i] = dot(f.cov[i], x)
	}
	noise := fitNoise * max(ms, predicted)
	denom := fitForget*noise*noise + dot(gain, x)
	for i := range gain {
		// A rate below zero would make long prompts look free.
		f.mult[i] = min(max(0, f.mult[i]+gain[i]/denom*(ms-predicted)), fitMost)
	}
	for i := range f.cov {
		for j := range f.cov[i] {
			f.cov[i][j] = (f.cov[i][j] - gain[i]*gain[j]/denom) / fitForget
		}
	}
	f.bound()
}

// bound keeps forgetting from blowing up the uncertainty of what the traffic
// does not show.
func (f *prefillFit) bound() {
	for i := range f.cov {
		if over := f.cov[i][i] / fitPrior; over > 1 {
			s := math.Sqrt(over)
			for j := range f.cov {
				f.cov[i][j] /= s
				f.cov[j][i] /= s
			}
		}
	}
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }
