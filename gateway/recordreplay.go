package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// Replay decides again from what the record holds, and reports how the answer
// differs, if it does: law 8 says that it does not.
func (r Record) Replay() error {
	switch {
	case r.Asked == nil:
		return errors.New("the record has no decision")
	case r.LeftOut > 0:
		return fmt.Errorf("%d candidates of this decision were not kept, so that it cannot be made again", r.LeftOut)
	}
	policy, err := router.NewPolicy(r.Policy, r.Seed)
	if err != nil {
		return err
	}
	var cs []router.Candidate
	for i := range r.Candidates {
		if c := &r.Candidates[i]; c.Split == nil {
			spans, err := parseHeld(c.Inputs.Held)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Worker, err)
			}
			cs = append(cs, router.Candidate{Worker: c.Worker, Role: c.Role, Adapter: c.Inputs.Adapter, Spans: spans, Predicted: c.Inputs.Predicted, Load: c.Inputs.Load, Rates: c.Inputs.Rates})
		}
	}
	again := NewRecord(*r.Asked, cs, policy.Decide(*r.Asked, cs))
	if again.Chosen != r.Chosen || again.Prefill != r.Prefill {
		return fmt.Errorf("%s was chosen; replayed, it is %s: %s", r.Chosen, again.Chosen, again.Why)
	}
	was, err := json.Marshal(r.Candidates)
	if err != nil {
		return err
	}
	is, err := json.Marshal(again.Candidates)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		return fmt.Errorf("the prices differ: %s; replayed: %s", was, is)
	}
	return nil
}

// parseHeld reads what inputs wrote.
func parseHeld(held []HeldRun) ([]kv.Span, error) {
	spans := make([]kv.Span, len(held))
	for i, h := range held {
		spans[i].Blocks = h.Blocks
		for name := range strings.SplitSeq(h.Tiers, "+") {
			t, err := kv.ParseTier(name)
			if err != nil {
				return nil, err
			}
			spans[i].Tiers = spans[i].Tiers.With(t)
		}
	}
	return spans, nil
}
