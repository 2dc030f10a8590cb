package router

import (
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// TestABadStartIsForgotten: each of four equal workers in turn has a bad start, its
// first prefills take a hundred times as long. It must be asked again before the
// others have had many prefills, and then be taken for what it is.
func TestABadStartIsForgotten(t *testing.T) {
	const mostElsewhere = 8 * paceHalfLife
	ids := []string{"a", "b", "c", "d"}
	for bad := range ids {
		for _, slow := range []int{1, 3, paceWindow} {
			now := time.Unix(1000, 0)
			c, p := NewCalibration(h200), &policy{predicted, choosePredicted, seed(t)}
			prefill := func(w, n int, factor float64) {
				c.ObservePrefill(kv.WorkerID(ids[w]), n, n, factor*h200.PrefillMS(n, n), 0)
			}
			for i := range 10 {
				for w := range ids {
					if w != bad {
						prefill(w, 500+100*i, 1)
					}
				}
			}
			for range slow {
				prefill(bad, 1000, 100)
			}
			asked, elsewhere := 0, 0
			for i := 0; asked < 2*paceWindow; i++ {
				if elsewhere > mostElsewhere*len(ids) {
					t.Fatalf("%s, %d slow prefills: not asked again while the others had %d", ids[bad], slow, elsewhere)
				}
				cs := make([]Candidate, len(ids))
				for w := range ids {
					cs[w] = Candidate{Worker: kv.WorkerID(ids[w]), Rates: c.Rates(kv.WorkerID(ids[w])), Load: Load{FreeKVShare: -1}}
				}
				n := 500 + i%7*300
				d := p.Decide(Request{ID: "r", Tokens: n, BlockSize: 16, Now: now}, cs)
				if prefill(d.Chosen, n, 1); d.Chosen == bad {
					asked, elsewhere = asked+1, 0
				} else {
					elsewhere++
				}
			}
			got := c.Rates(kv.WorkerID(ids[bad]))
			if have, want := got.PrefillMS(1000, 1000), h200.PrefillMS(1000, 1000); have > 1.1*want {
				t.Errorf("%s, %d slow prefills: still taken to need %.0f ms for what takes %.0f", ids[bad], slow, have, want)
			}
		}
	}
}
