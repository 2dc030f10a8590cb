package router

import "math"

// prefillFit learns the three prefill rates by recursive least squares with
// forgetting. Its unknowns are scaled so that all have about the same size on
// real prompts: ms, ms per 1,024 tokens, ms per 1,024 x 1,024 attended pairs.
type prefillFit struct {
	theta [3]float64
	cov   [3][3]float64 // uncertainty of theta, in units of the noise
	seen  int
}

const (
	fitScale  = 1024.0
	fitForget = 0.99  // an observation's weight falls to 1/e in 100 more
	fitPrior  = 100.0 // uncertainty of the defaults: a few observations outweigh them
	fitMaxCov = 1e4   // an unknown that is never observed does not become ever more uncertain
	// fitTrusted observations make the fit good enough to distrust an
	// observation: beyond fitOutlier times the prediction it counts as just that.
	fitTrusted = 8
	fitOutlier = 4.0
)

func newPrefillFit(d Rates) prefillFit {
	f := prefillFit{theta: [3]float64{
		d.PrefillBaseMS, d.PrefillPerTokenMS * fitScale, d.PrefillPerTokenContextMS * fitScale * fitScale,
	}}
	for i := range f.cov {
		f.cov[i][i] = fitPrior
	}
	return f
}

func (f *prefillFit) fill(r *Rates) {
	r.PrefillBaseMS = f.theta[0]
	r.PrefillPerTokenMS = f.theta[1] / fitScale
	r.PrefillPerTokenContextMS = f.theta[2] / fitScale / fitScale
}

// observe is one step of recursive least squares. Prefills span orders of
// magnitude, so each is weighted by its predicted size: what is made small is
// the relative error.
func (f *prefillFit) observe(tokens, context int, ms float64) {
	if tokens <= 0 || context < tokens || !(ms > 0) || math.IsInf(ms, 0) {
		return
	}
	x := [3]float64{1, float64(tokens) / fitScale, attended(tokens, context) / fitScale / fitScale}
	predicted := dot(f.theta, x)
	if f.seen++; f.seen > fitTrusted && predicted > 0 {
		ms = min(max(ms, predicted/fitOutlier), predicted*fitOutlier)
	}
	size := max(ms, predicted, 1e-3)
	noise := size * size / fitScale // relative error of about 3 % is taken for noise

	var gain [3]float64
	for i := range gain {
		gain[i] = dot(f.cov[i], x)
	}
	denom := fitForget*noise + dot(gain, x)
	residual := ms - predicted
	for i := range gain {
		// Rates below zero make no sense and would make long prompts look free.
		f.theta[i] = max(0, f.theta[i]+gain[i]/denom*residual)
	}
	for i := range f.cov {
		for j := range f.cov[i] {
			f.cov[i][j] = (f.cov[i][j] - gain[i]*gain[j]/denom) / fitForget
		}
	}
	f.bound()
}

// bound keeps the covariance from winding up in a direction that the traffic
// does not excite.
func (f *prefillFit) bound() {
	for i := range f.cov {
		if over := f.cov[i][i] / fitMaxCov; over > 1 {
			s := math.Sqrt(over)
			for j := range f.cov {
				f.cov[i][j] /= s
				f.cov[j][i] /= s
			}
		}
	}
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }
