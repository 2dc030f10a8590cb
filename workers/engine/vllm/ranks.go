package vllm

import (
	"context"
	"errors"
	"fmt"
)

// maxRanks bounds what an engine is believed to have.
const maxRanks = 1024

// CountRanks asks how many data-parallel ranks the engine has: each has a cache
// of its own, and metrics of its own by the label engine. An engine that has no
// metrics is taken to have one.
func (c *Client) CountRanks(ctx context.Context) (int, error) {
	body, err := c.get(ctx, "/metrics")
	if status := (*statusError)(nil); errors.As(err, &status) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	return countRanks(body)
}

func countRanks(text []byte) (int, error) {
	samples, err := wantedSamples(text)
	if err != nil {
		return 0, err
	}
	ranks := 1
	for _, s := range samples {
		if s.name == cacheConfig[0] {
			ranks = max(ranks, s.number("engine")+1)
		}
	}
	if ranks > maxRanks {
		return 0, fmt.Errorf("vllm: metrics: %d data-parallel ranks", ranks)
	}
	return ranks, nil
}
