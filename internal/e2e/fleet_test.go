package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

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

// busiest is the worker with the most requests.
func (g gateway) busiest() (id string) {
	g.t.Helper()
	var fleet struct {
		Workers []struct {
			ID   string
			Load struct{ Running, Waiting int }
		}
	}
	g.getJSON("/kvasir/v1/workers", &fleet)
	most := -1
	for _, w := range fleet.Workers {
		if n := w.Load.Running + w.Load.Waiting; n > most {
			id, most = w.ID, n
		}
	}
	return id
}

// tier is one tier of one worker in GET /kvasir/v1/tiers.
type tier struct {
	Tier                                                 string
	Capacity, Free, Filling, Committed, Evicting, Leased int
	Up                                                   struct{ Blocks int } // the link that brings blocks up from it
}

// tiers is every tier of every worker.
func (g gateway) tiers() (all []tier) {
	g.t.Helper()
	var answer struct {
		Workers []struct{ Tiers []tier }
	}
	g.getJSON("/kvasir/v1/tiers", &answer)
	for _, w := range answer.Workers {
		all = append(all, w.Tiers...)
	}
	return all
}

// sum adds up a figure of one tier over all workers.
func (g gateway) sum(name string, figure func(tier) int) (n int) {
	g.t.Helper()
	for _, x := range g.tiers() {
		if x.Tier == name {
			n += figure(x)
		}
	}
	return n
}

// committed is the number of blocks in a tier.
func (g gateway) committed(name string) int {
	return g.sum(name, func(x tier) int { return x.Committed })
}

// moved is the number of blocks that were brought up from a tier.
func (g gateway) moved(name string) int {
	return g.sum(name, func(x tier) int { return x.Up.Blocks })
}

// metric is the sum of the series of a metric at an address whose labels contain
// with; 0 if there is none.
func metric(url, name, with string) (sum float64, err error) {
	r, err := http.Get(url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	for sc := bufio.NewScanner(r.Body); sc.Scan(); {
		line := sc.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' || !strings.Contains(rest, with) {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}
