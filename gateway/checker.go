package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// checker compares each model's tokens with those of each of its engines, when
// an engine comes and whenever it comes back, and remembers which models are
// not to be trusted with their own.
type checker struct {
	g     *Gateway
	there *engineTokens

	mu       sync.Mutex
	verdicts map[kv.WorkerID]verdict
}

// verdict is the latest check of one worker.
type verdict struct {
	model  string
	path   string // of the tokenizer
	life   uint64 // of the worker, see workers.Worker.Life
	check  TokenCheck
	failed time.Time // when the engine could not be asked; zero: it could
}

const (
	checkInterval = 250 * time.Millisecond // between looks at the fleet
	checkTimeout  = 15 * time.Second       // of one engine's check
	checkPause    = 5 * time.Second        // before an engine that could not be asked is asked again
	checksAtOnce  = 8
)

// CheckTokens checks every model against its engines until ctx ends. Requests
// do not wait for it: until a model was checked, its tokens are believed.
func (g *Gateway) CheckTokens(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		g.checker.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round checks the workers that are due, some at a time.
func (c *checker) round(ctx context.Context) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, checksAtOnce)
	for _, w := range c.g.c.Fleet.Workers() {
		if !w.Ready() || !c.due(w) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.check(ctx, w)
		})
	}
	wg.Wait()
	c.forgetLeft()
}

// due reports whether the worker's engine, or what it is compared with, is
// another than at its last check.
func (c *checker) due(w *workers.Worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := w.Info()
	v, known := c.verdicts[w.ID()]
	if !known || v.model != info.Model || v.life != w.Life() || v.path != c.g.models.path(info.Model) {
		return true
	}
	return !v.failed.IsZero() && c.g.c.Now().Sub(v.failed) >= checkPause
}

func (c *checker) check(ctx context.Context, w *workers.Worker) {
	info := w.Info()
	v := verdict{model: info.Model, path: c.g.models.path(info.Model), life: w.Life()}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var err error
	if l := c.g.models.whole(info.Model); l == nil {
		v.check.Result = TokensOfEngine
	} else {
		c.there.noRender.Delete(info.URL) // it may have been started otherwise
		v.check, err = compareTokens(ctx, c.there, info, l, c.g.c.Now)
	}
	if err != nil {
		if ctx.Err() == nil || c.g.c.Fleet.Worker(info.ID) != nil {
			c.g.c.Log.Debug("the engine's tokens could not be compared yet", "worker", info.ID, "model", info.Model, "error", err)
		}
		v.failed = c.g.c.Now()
		v.check = c.last(info.ID).check // an engine that is busy proves nothing
	}
	before := c.last(info.ID)
	c.mu.Lock()
	c.verdicts[info.ID] = v
	c.mu.Unlock()
	if err == nil && (before.check.Result != v.check.Result || before.model != v.model) {
		c.say(info, &v.check)
	}
}

func (c *checker) last(id kv.WorkerID) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verdicts[id]
}

// say tells the operator, in one line, what a check found and what follows.
func (c *checker) say(info workers.Info, check *TokenCheck) {
	log := c.g.c.Log.With("worker", info.ID, "model", info.Model)
	switch check.Result {
	case TokensMatch:
		log.Info("tokens are the engine's", "probes", check.Compared)
	case TokenizerDiffers:
		log.Warn("the tokenizer is not the engine's: the engine is asked for every prompt's tokens; give its own with models[].tokenizer or --model", "difference", check.Difference.String())
	case TemplateDiffers:
		log.Warn("the chat template is not the engine's: the engine is asked for every chat's tokens; give its own in the tokenizer's folder", "difference", check.Difference.String())
	case TokensOfEngine:
		log.Warn("no tokenizer for the model here: the engine is asked for every prompt's tokens, which costs a call; give one with models[].tokenizer or --model")
	case TokensUnchecked:
		log.Info("tokens could not be checked: the engine has no /tokenize")
	}
}

// forgetLeft drops the verdicts of workers that have left.
func (c *checker) forgetLeft() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.verdicts {
		if c.g.c.Fleet.Worker(id) == nil {
			delete(c.verdicts, id)
		}
	}
}

// limit is what of a model's language is to be trusted: one engine that
// disagrees is enough to ask.
func (c *checker) limit(model string, l *language) *language {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.verdicts {
		if v.model != model {
			continue
		}
		switch v.check.Result {
		case TokenizerDiffers:
			return nil
		case TemplateDiffers:
			l = l.untemplated
		}
	}
	return l
}

var tokenCheck = prometheus.NewDesc("kvasir_token_check",
	"1; how the gateway's tokens compare with the engine's: match, tokenizer_differs, template_differs, engine (no tokenizer here) or unchecked.",
	[]string{"model", "worker", "result"}, nil)

// Describe implements prometheus.Collector.
func (c *checker) Describe(ch chan<- *prometheus.Desc) { ch <- tokenCheck }

// Collect implements prometheus.Collector.
func (c *checker) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, v := range c.verdicts {
		if v.check.Result != "" {
			ch <- prometheus.MustNewConstMetric(tokenCheck, prometheus.GaugeValue, 1, v.model, string(id), v.check.Result)
		}
	}
}
