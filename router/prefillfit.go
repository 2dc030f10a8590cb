package router

import "math"

// prefillFit learns the three prefill rates by recursive least squares with
// forgetting. Its unknowns are multipliers of a first guess, so that one prior
// and one set of bounds fit a data-centre GPU and a laptop's processor alike.
type prefillFit struct {
	guess   [3]float64 // ms; ms per token; ms per attended pair
	mult    [3]float64
	cov     [3][3]float64 // uncertainty of mult
	seen    int
	updates int // times that the rates changed
	odd     int // outliers in a row

	defaults Rates
}

const (
	fitForget = 0.999 // an observation's weight falls to 1/e in 1,000 more: long prompts are rare
	fitNoise  = 0.05  // the share of a prefill's time that is taken for noise
	fitPrior  = 25.0  // variance of a multiplier at first, and at most
	fitMost   = 1000  // and the most that it can be
	// A prefill is an outlier when it is off by fitOutlier, either way, and by
	// fitSigmas of what was to be expected. But fitChange of them in a row mean
	// that the worker has changed: then the fit starts over.
	fitOutlier = 4.0
	fitSigmas  = 6.0
	fitChange  = 5
	// A rate of zero is guessed to be what makes fitTrace of a prefill of
	// fitTokens, so that it can be learned.
	fitTrace  = 0.01
	fitTokens = 1024
)

func newPrefillFit(d Rates) prefillFit {
	f := prefillFit{
		guess: [3]float64{d.PrefillBaseMS, d.PrefillPerTokenMS, d.PrefillPerTokenContextMS},
		cov:   [3][3]float64{{fitPrior, 0, 0}, {0, fitPrior, 0}, {0, 0, fitPrior}},

		defaults: d,
	}
	typical := features(fitTokens, fitTokens)
	whole := dot(f.guess, typical)
	if whole <= 0 { // nothing is known, so let it be proportional to the tokens
		f.guess[1], whole = 1, fitTokens
	}
	for i, g := range f.guess {
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

// fill sets r's prefill rates to times what was learned, if anything was.
func (f *prefillFit) fill(r *Rates, times float64) {
	if f.seen == 0 {
		return
	}
	r.PrefillBaseMS = f.guess[0] * f.mult[0] * times
	r.PrefillPerTokenMS = f.guess[1] * f.mult[1] * times
	r.PrefillPerTokenContextMS = f.guess[2] * f.mult[2] * times
}

// predict is the time of a prefill.
func (f *prefillFit) predict(tokens, context int) (ms float64) {
	for i, x := range features(tokens, context) {
		ms += f.guess[i] * f.mult[i] * x
	}
	return ms
}

// observe is one step. Prefills span orders of magnitude, so each counts by its
// relative error.
func (f *prefillFit) observe(tokens, context int, ms float64) {
	f.updates++
	if f.seen++; f.seen == 1 {
		f.scale(tokens, context, ms)
		return
	}
	x := features(tokens, context)
	for i := range x {
		x[i] *= f.guess[i]
	}
	predicted := dot(f.mult, x)
	var gain [3]float64
	for i := range gain {
		gain[i] = dot(f.cov[i], x)
	}
	noise := fitNoise * max(ms, predicted)
	denom := fitForget*noise*noise + dot(gain, x)
	if f.outlier(ms, predicted, denom) {
		if f.odd++; f.odd == fitChange {
			updates := f.updates
			*f = newPrefillFit(f.defaults)
			f.updates = updates
			f.observe(tokens, context, ms)
		}
		return
	}
	f.odd = 0
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

// scale takes the first guess's scale from the first prefill. The defaults may be
// those of quite another machine; what is kept of them is their shape.
func (f *prefillFit) scale(tokens, context int, ms float64) {
	if predicted := f.predict(tokens, context); predicted > 0 {
		for i := range f.guess {
			f.guess[i] *= ms / predicted
		}
	}
}

// outlier reports whether a prefill says more about its moment than about the
// worker: it is far from the prediction, though prompts like it are known well.
func (f *prefillFit) outlier(ms, predicted, variance float64) bool {
	far := ms > predicted*fitOutlier || ms < predicted/fitOutlier
	return far && math.Abs(ms-predicted) > fitSigmas*math.Sqrt(variance)
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
