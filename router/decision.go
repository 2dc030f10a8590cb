package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Decision is a policy's answer, with what every candidate would have cost.
type Decision struct {
	RequestID string
	Policy    string
	Chosen    int // index into Estimates; -1: there was no candidate
	// Estimates has one for each candidate, in their order, as it would serve the
	// request (or, a prefill worker, the first leg) alone. Behind them is one for
	// each decode worker with the prefill worker that suits it best.
	Estimates []Estimate
	// Seed is the policy's state before it decided: NewPolicy(Policy, Seed)
	// decides the same for the same request and candidates (law 8).
	Seed uint64
	Why  string

	splits []Split // what Estimates point to
	legs   firstLegs
}

// Worker is the one chosen, "" if none.
func (d *Decision) Worker() kv.WorkerID {
	if d.Chosen < 0 {
		return ""
	}
	return d.Estimates[d.Chosen].Worker
}

// decisionJSON is a Decision on the wire, where the choice is named, not
// counted.
type decisionJSON struct {
	RequestID string      `json:"request_id"`
	Policy    string      `json:"policy"`
	Chosen    kv.WorkerID `json:"chosen"`
	// Prefill is the worker of the first leg, if that is another.
	Prefill    kv.WorkerID `json:"chosen_prefill,omitempty"`
	Candidates []Estimate  `json:"candidates"`
	Seed       uint64      `json:"seed"`
	Why        string      `json:"why"`
}

// MarshalJSON writes the decision as explain shows it: `chosen` is the worker's
// id, `candidates` are the estimates.
func (d Decision) MarshalJSON() ([]byte, error) {
	w := decisionJSON{d.RequestID, d.Policy, d.Worker(), "", d.Estimates, d.Seed, d.Why}
	if leg := d.PrefillLeg(); leg != nil {
		w.Prefill = leg.Worker
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var w decisionJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*d = Decision{RequestID: w.RequestID, Policy: w.Policy, Chosen: -1, Estimates: w.Candidates, Seed: w.Seed, Why: w.Why}
	for i := range d.Estimates {
		e := &d.Estimates[i]
		prefill := kv.WorkerID("")
		if e.Split != nil {
			prefill = e.Split.Prefill
			e.Split.leg = slices.IndexFunc(d.Estimates, func(leg Estimate) bool { return leg.Worker == prefill && leg.Split == nil })
			if e.Split.leg < 0 {
				return fmt.Errorf("router: decision %q splits with %q, which is not among its candidates", w.RequestID, prefill)
			}
			e.Split.second = slices.IndexFunc(d.Estimates, func(second Estimate) bool { return second.Worker == e.Worker && second.Split == nil })
		}
		if e.Worker == w.Chosen && prefill == w.Prefill && d.Chosen < 0 {
			d.Chosen = i
		}
	}
	if w.Chosen != "" && d.Chosen < 0 {
		return fmt.Errorf("router: decision %q chose %q, which is not among its candidates", w.RequestID, w.Chosen)
	}
	return nil
}

// TierBlocks counts blocks by tier; in JSON it is an object keyed by tier.
type TierBlocks [kv.NumTiers]int

// Total is the sum over the tiers.
func (t TierBlocks) Total() (n int) {
	for _, b := range t {
		n += b
	}
	return n
}

// MarshalJSON writes every tier, in tier order.
func (t TierBlocks) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for tier, n := range t {
		sep := byte(',')
		if tier == 0 {
			sep = '{'
		}
		fmt.Fprintf(&b, "%c%q:%d", sep, kv.Tier(tier), n)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *TierBlocks) UnmarshalJSON(b []byte) error {
	var m map[kv.Tier]int
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*t = TierBlocks{}
	for tier, n := range m {
		t[tier] = n
	}
	return nil
}
