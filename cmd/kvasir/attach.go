package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// attached are the workers of --worker. One joins the fleet when its engine has
// answered: only then is it known how many data-parallel ranks it has, each of
// which is a worker.
type attached struct {
	given []workers.Info
	log   *slog.Logger
}

// Run implements workers.Source.
func (a attached) Run(ctx context.Context, update func([]workers.Info)) error {
	joined := make([][]workers.Info, len(a.given))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, info := range a.given {
		wg.Go(func() {
			if info.Ranks = a.ranks(ctx, info); info.Ranks == 0 {
				return // ctx is over
			}
			mu.Lock()
			defer mu.Unlock()
			joined[i] = info.PerRank()
			update(slices.Concat(joined...))
		})
	}
	wg.Wait()
	<-ctx.Done()
	return ctx.Err()
}

// ranks asks an engine until it answers.
func (a attached) ranks(ctx context.Context, info workers.Info) int {
	engine := vllm.Client{HTTP: &http.Client{Timeout: 2 * time.Second}, URL: info.URL, Authorize: info.Authorize}
	for told := false; ; told = true {
		n, err := engine.CountRanks(ctx)
		if err == nil {
			return n
		}
		if !told && ctx.Err() == nil {
			a.log.Warn("the engine does not answer yet; it joins when it does", "worker", info.ID, "url", info.URL, "error", err)
		}
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(250 * time.Millisecond):
		}
	}
}
