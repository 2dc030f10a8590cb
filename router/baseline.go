package router

// The baselines that every gateway has. They ignore the estimates, which are
// there to show what the choice cost.

func chooseRoundRobin(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return int(seed % uint64(len(cs)))
}

func chooseRandom(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return int(below(mix(seed, 0), uint64(len(cs))))
}

// chooseLeastLoaded takes the worker with the fewest requests.
func chooseLeastLoaded(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return lowest(seed, len(cs), func(i int) float64 {
		return float64(cs[i].Load.Running + cs[i].Load.Waiting)
	})
}
