package router

import "github.com/kvasir-ai/kvasir/internal/kv"

// What a choice costs beyond the request's own time to first token. The weights
// were found with the simulator, on the conversation trace at 40, 70 and 90 % of
// saturation (docs/benchmarks.md): they are where mean and tail were lowest
// together, and hits no fewer than those of policies that go by hits.
const (
	// A millisecond of compute is one that requests to come don't get, this
	// conversation's next turn among them; and what is computed twice pushes
	// another prefix out of a cache. workShare is what it counts while at least
	// half the workers are free; busyShare is what comes on top when somebody
	// waits at every one.
	workShare = 1.0
	busyShare = 40.0
	// streamShare is what a millisecond's delay of a running stream counts: chunks
	// of prompts are computed between its tokens. Who runs decode workers wants
	// that not to happen: there it counts in full.
	streamShare = 0.01
	// stepTokens bounds what a prompt adds to one step of an engine. Those who
	// wait have their last chunk in one step with this prompt's first.
	stepTokens = 8192
	// A wait as long as a prefill of patienceTokens costs twice what it takes;
	// beyond, more. A mean can be had at the price of a few who wait for ever.
	patienceTokens = 24 << 10
	// lowKVShare is the share of free KV below which a new request is expected to
	// push others out.
	lowKVShare = 0.1
)

// harm is what a prefill of prefillMS on c costs others. When KV runs out
// somebody is preempted, waits and is computed again; we do not know who, so the
// penalty grows to what this prompt would cost from scratch.
func harm(q *query, c *Candidate, prefillMS float64) float64 {
	work, streams := workShare+busyShare*max(0, 2*q.busy-1), streamShare
	if c.Role == kv.Decode {
		streams = 1
	}
	ms := (work + streams*float64(c.Load.Running)) * prefillMS
	ms += float64(c.Load.Waiting) * min(prefillMS, stepTokens*c.Rates.PrefillPerTokenMS)
	if free := c.Load.FreeKVShare; free >= 0 && free < lowKVShare {
		ms += (1 - free/lowKVShare) * (1 + work) * q.scratchMS(&c.Rates)
	}
	return ms
}

// strain is what a long wait costs beyond its length, so that many short ones are
// preferred to one long one.
func strain(r *Rates, ttftMS float64) float64 {
	patienceMS := r.PrefillMS(patienceTokens, patienceTokens)
	if patienceMS <= 0 {
		return 0
	}
	return ttftMS * ttftMS / patienceMS
}
