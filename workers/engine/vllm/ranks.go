package vllm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
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
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(wantedLines(text)))
	if err != nil {
		return 0, fmt.Errorf("vllm: metrics: %w", err)
	}
	ranks := 1
	for _, m := range families[cacheConfig[0]].GetMetric() {
		ranks = max(ranks, label(m, "engine")+1)
	}
	if ranks > maxRanks {
		return 0, fmt.Errorf("vllm: metrics: %d data-parallel ranks", ranks)
	}
	return ranks, nil
}
