package loadgen

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// Options are a run.
type Options struct {
	Targets  []Target
	Model    string // "": the first that the first target serves
	Sessions []Session
	// Duration ends the run: turns that are due later are not sent. 0: none.
	Duration time.Duration
	// Timeout bounds a request.
	Timeout time.Duration
	Seed    uint64
	// FreeLength lets the model end its answers; else each has the length asked
	// for, where the engine can.
	FreeLength bool
	// Progress is told of every request that has ended; nil: nobody.
	Progress func(done, of int)
}

// sample is one request that has ended.
type sample struct {
	target int
	// turn numbers the turn over all sessions, so that targets' samples of one
	// turn find each other.
	turn  int
	due   time.Time
	begun time.Time
	ended time.Time
	reply *reply
	err   error
}

// Run sends the sessions and reports. It returns early, with what it has, when
// ctx ends.
func Run(ctx context.Context, o Options) (*Report, error) {
	if len(o.Targets) == 0 || len(o.Sessions) == 0 {
		return nil, errors.New("a run wants a target and a session")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = 4096, 0
	defer transport.CloseIdleConnections()
	c := &client{http: &http.Client{Transport: transport}, model: o.Model, exact: !o.FreeLength}
	if c.model == "" {
		var err error
		if c.model, err = firstModel(ctx, c.http, &o.Targets[0]); err != nil {
			return nil, err
		}
	}
	r := &run{o: o, client: c, began: time.Now()}
	for i := range o.Sessions {
		r.turns += len(o.Sessions[i].Turns) * len(o.Targets)
	}
	usage, err := watchProcesses(o.Targets)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	first := 0
	for i := range o.Sessions {
		turn := first
		wg.Go(func() { r.session(ctx, i, turn) })
		first += len(o.Sessions[i].Turns)
	}
	wg.Wait()
	return r.report(time.Now(), usage())
}

type run struct {
	o      Options
	client *client
	began  time.Time
	turns  int // over all targets

	mu      sync.Mutex
	samples []sample
}

// session plays one conversation with every target. Each target's answers make
// its own history.
func (r *run) session(ctx context.Context, number, turn int) {
	s := &r.o.Sessions[number]
	order := rand.New(rand.NewPCG(r.o.Seed, uint64(number)))
	histories := make([][]openai.ChatCompletionMessage, len(r.o.Targets))
	if s.System != "" {
		for i := range histories {
			histories[i] = []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleSystem, Content: s.System}}
		}
	}
	due := r.began.Add(s.Start)
	for i, t := range s.Turns {
		if now := time.Now(); now.After(due) && i > 0 {
			due = now // the answer before took longer than the gap
		}
		if r.o.Duration > 0 && due.Sub(r.began) >= r.o.Duration || !sleepUntil(ctx, due) {
			return
		}
		for k, target := range order.Perm(len(r.o.Targets)) {
			begin := due
			if k > 0 {
				begin = time.Now()
			}
			histories[target] = append(histories[target], openai.ChatCompletionMessage{Role: openai.ChatMessageRoleUser, Content: t.Text})
			answer := r.ask(ctx, sample{target: target, turn: turn + i, due: begin}, histories[target], t.MaxTokens)
			if answer == nil {
				return // a conversation with a hole is none
			}
			histories[target] = append(histories[target], openai.ChatCompletionMessage{Role: openai.ChatMessageRoleAssistant, Content: answer.text})
		}
		due = due.Add(s.Gap)
	}
}

// ask sends one turn and books what came of it; nil after an error.
func (r *run) ask(ctx context.Context, s sample, messages []openai.ChatCompletionMessage, maxTokens int) *reply {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	s.begun = time.Now()
	s.reply, s.err = r.client.chat(ctx, &r.o.Targets[s.target], messages, maxTokens)
	s.ended = time.Now()
	if s.err == nil && s.reply.events == 0 {
		s.err = errors.New("the answer has no content")
	}
	r.mu.Lock()
	r.samples = append(r.samples, s)
	done := len(r.samples)
	r.mu.Unlock()
	if r.o.Progress != nil {
		r.o.Progress(done, r.turns)
	}
	if s.err != nil {
		return nil
	}
	return s.reply
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
