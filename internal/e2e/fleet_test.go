package e2e

import "fmt"

// awaitWorkers waits until n workers are ready.
func (g gateway) awaitWorkers(n int) {
	g.t.Helper()
	g.eventually(fmt.Sprintf("%d workers are ready", n), func() error {
		var fleet struct {
			Workers []struct {
				ID    string
				Ready bool
			}
		}
		g.getJSON("/kvasir/v1/workers", &fleet)
		ready := 0
		for _, w := range fleet.Workers {
			if w.Ready {
				ready++
			}
		}
		if ready != n {
			return fmt.Errorf("%+v", fleet.Workers)
		}
		return nil
	})
}

// tiers is GET /kvasir/v1/tiers.
type tiers struct {
	Workers []struct {
		ID    string
		Tiers map[string]struct {
			Capacity, Committed int
		}
		Links []struct {
			From, To string
			Blocks   int
			Errors   int
		}
	}
}

func (g gateway) tiers() (t tiers) {
	g.t.Helper()
	g.getJSON("/kvasir/v1/tiers", &t)
	return t
}

// committed is the number of blocks in a tier, over all workers.
func (g gateway) committed(tier string) (n int) {
	g.t.Helper()
	for _, w := range g.tiers().Workers {
		n += w.Tiers[tier].Committed
	}
	return n
}

func (g gateway) capacity(tier string) (n int) {
	g.t.Helper()
	for _, w := range g.tiers().Workers {
		n += w.Tiers[tier].Capacity
	}
	return n
}

// moved is the number of blocks that were brought up from a tier.
func (g gateway) moved(tier string) (n int) {
	g.t.Helper()
	for _, w := range g.tiers().Workers {
		for _, l := range w.Links {
			if l.From == tier && (l.To == "cpu" && tier != "gpu" || l.To == "gpu") {
				n += l.Blocks
			}
		}
	}
	return n
}

// linkErrors is the number of transfers to or from a tier that failed.
func (g gateway) linkErrors(tier string) (n int) {
	g.t.Helper()
	for _, w := range g.tiers().Workers {
		for _, l := range w.Links {
			if l.From == tier || l.To == tier {
				n += l.Errors
			}
		}
	}
	return n
}
