package router

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Decision is a policy's answer, with what every candidate would have cost.
type Decision struct {
	RequestID string
	Policy    string
	Chosen    int        // index into Estimates; -1: there was no candidate
	Estimates []Estimate // in the order of the candidates
	// Seed is the policy's state before it decided: NewPolicy(Policy, Seed)
	// decides the same for the same request and candidates (law 8).
	Seed uint64
	Why  string
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
	RequestID  string      `json:"request_id"`
	Policy     string      `json:"policy"`
	Chosen     kv.WorkerID `json:"chosen"`
	Candidates []Estimate  `json:"candidates"`
	Seed       uint64      `json:"seed"`
	Why        string      `json:"why"`
}

// MarshalJSON writes the decision as explain shows it: `chosen` is the worker's
// id, `candidates` are the estimates.
func (d Decision) MarshalJSON() ([]byte, error) {
	return json.Marshal(decisionJSON{d.RequestID, d.Policy, d.Worker(), d.Estimates, d.Seed, d.Why})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var w decisionJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*d = Decision{w.RequestID, w.Policy, -1, w.Candidates, w.Seed, w.Why}
	for i := range d.Estimates {
		if d.Estimates[i].Worker == w.Chosen {
			d.Chosen = i
			return nil
		}
	}
	if w.Chosen != "" {
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
