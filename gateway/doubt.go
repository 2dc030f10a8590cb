package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// doubts are the models whose probes came out differently here than at an
// engine. Their engines are asked for every prompt's tokens, which costs a call;
// but what differs may be something that nobody asks for. So each answer is
// compared with our own tokens: once enough prompts in a row have agreed, only
// some are asked about still, and one that disagrees, there or by the engine's
// own count in an answer's usage, brings the doubt back.
type doubts struct {
	log *slog.Logger

	mu     sync.Mutex
	models map[string]*doubt
}

type doubt struct {
	agreed int // prompts in a row
	passed int // since one was asked about
}

const (
	// agreeEnough is how many prompts in a row must agree.
	agreeEnough = 64
	// askAmong is among how many prompts one is asked about after that.
	askAmong = 64
)

func newDoubts(log *slog.Logger) *doubts { return &doubts{log: log, models: map[string]*doubt{}} }

// believes reports whether a prompt of a doubted model may go by our own tokens.
func (d *doubts) believes(model string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.models[model]
	if m == nil || m.agreed < agreeEnough {
		return false
	}
	m.passed++
	if m.passed >= askAmong {
		m.passed = 0
		return false
	}
	return true
}

// compared books whether one prompt's tokens agreed with the engine's.
func (d *doubts) compared(model string, agree bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.models[model]
	if m == nil {
		m = &doubt{}
		d.models[model] = m
	}
	settled := m.agreed >= agreeEnough
	if !agree {
		*m = doubt{}
		if settled {
			d.log.Warn("a prompt's tokens are not the engine's after all: it is asked about every prompt again", "model", model)
		}
		return
	}
	if m.agreed++; m.agreed == agreeEnough {
		d.log.Info("probes differ, but the prompts that come do not: the engine is asked about few of them from now on",
			"model", model, "agreed", agreeEnough, "asked_among", askAmong)
	}
}

// tokenizeDoubted finds the tokens of a prompt whose model's tokens differ, for
// some texts, from its engine's.
func (g *Gateway) tokenizeDoubted(ctx context.Context, q *inference, l *language) (*promptTokens, error) {
	own, known, err := g.tokenizeHere(q, l)
	if err != nil || !known {
		return g.tokenizeAtEngine(ctx, q), nil // it may take what our template refuses
	}
	if g.doubts.believes(q.model) {
		return own, nil
	}
	p := g.tokenizeAtEngine(ctx, q)
	if p.tokens != nil {
		g.doubts.compared(q.model, slices.Equal(own.tokens, p.tokens))
	}
	return p, nil
}
