package gpu

// Pace is how much of a lane's work is in flight.
type Pace struct {
	Calls     int // at a time
	CallBytes int
}

// freely is the pace beside an engine that does not decode: a call's
// submission hides behind the one before.
var freely = Pace{Calls: 2, CallBytes: 8 << 20}

// steps are the calls, one in flight, beside an engine that decodes, and how
// much slower its steps became with them: D2H beside an HBM-bound step on an
// H200, PCIe 5 x16. H2D disturbs such a step by about 4 % at any size, because
// of the memory traffic, and more only where queues grow.
var steps = []struct {
	bytes    int
	slowdown float64
}{{2 << 20, 0.012}, {4 << 20, 0.016}, {6 << 20, 0.020}, {8 << 20, 0.025}}

// paceBeside is the pace beside a decoding engine that may become slower by
// the given share: the largest call that keeps within it, or the smallest.
func paceBeside(budget float64) Pace {
	p := Pace{Calls: 1, CallBytes: steps[0].bytes}
	for _, s := range steps {
		if s.slowdown <= budget {
			p.CallBytes = s.bytes
		}
	}
	return p
}
