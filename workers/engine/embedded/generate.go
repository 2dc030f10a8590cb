package embedded

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
	"github.com/kvasir-ai/kvasir/internal/kv"
)

// The headers between gateway and engine.
const (
	requestIDHeader = "X-Request-Id"
	// restoreHeader is the router's cut in blocks: the engine restores no more
	// than that from lower tiers, whichever of its two calls arrives first.
	restoreHeader = "X-Kvasir-Restore-Blocks"
)

// writeTimeout is how long a client may keep a write waiting.
const writeTimeout = 30 * time.Second

// usage is OpenAI's.
type usage struct {
	PromptTokens     int           `json:"prompt_tokens"`
	TotalTokens      int           `json:"total_tokens"`
	CompletionTokens int           `json:"completion_tokens"`
	Details          promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// choice is what came of one sequence so far.
type choice struct {
	item              // everything put together
	prompt   []uint32 // its tokens
	started  bool
	textEnds int // where the next token begins in the text, in characters, for logprobs
}

// reply is one request's answer in the making.
type reply struct {
	id, model string
	created   int64
	options
	choices []choice
	usage   usage
}

// dialect writes a reply as one of the two APIs does.
type dialect interface {
	// whole is the body of a unary answer.
	whole(*reply) any
	// opening is what a stream says before a choice's first item; nil: nothing.
	opening(*reply, *choice) any
	// chunk is what it says about an item of c; c does not hold it yet.
	chunk(r *reply, c *choice, it item) any
	// usageChunk is the last one of a stream that was asked for it.
	usageChunk(*reply) any
}

// newJob makes a sequence for each prompt and choice.
func (s *server) newJob(r *http.Request, id string, prompts [][]uint32, o options) (*job, *apiError) {
	restore := -1
	if h := r.Header.Get(restoreHeader); h != "" {
		var err error
		if restore, err = strconv.Atoi(h); err != nil || restore < 0 {
			return nil, badField(restoreHeader, "%s must be a number of blocks", restoreHeader)
		}
	}
	if len(prompts)*o.n > maxChoices {
		return nil, badField("prompt", "%d prompts with n=%d are more than %d choices", len(prompts), o.n, maxChoices)
	}
	j := &job{mailbox: mailbox{ready: make(chan struct{}, 1)}}
	for _, tokens := range prompts {
		root := kv.RootSpec{Model: s.name, Salt: o.salt, BlockSize: s.blockSize}.Hash()
		hashes := kv.Chain(nil, root, tokens, s.blockSize)
		for range o.n {
			q := &sequence{options: o, job: j, index: len(j.seqs), id: id, root: root, restore: restore, prompt: len(tokens),
				tokens: append([]uint32(nil), tokens...), hashes: append([]kv.Hash(nil), hashes...), submitted: time.Now(),
				decoder: s.tokenizer.NewDecoder(tokenizer.DecoderOptions{SkipSpecial: o.skipSpecial}),
				stopper: stopper{stops: o.stops, include: o.includeStop}}
			if q.index > 0 {
				q.id += "-" + strconv.Itoa(q.index)
			}
			p := o.sampling
			p.seed += uint64(q.index)
			q.sampler = newSampler(p, tokens)
			j.seqs = append(j.seqs, q)
		}
	}
	return j, nil
}

// fit checks the prompts against the context and settles max_tokens: 0 is all
// that is left.
func (s *server) fit(prompts [][]uint32, o *options) *apiError {
	longest := 0
	for _, p := range prompts {
		longest = max(longest, len(p))
		if len(p) == 0 {
			return badField("prompt", "the prompt is empty")
		}
		for _, id := range p {
			if int(id) >= s.vocab {
				return badField("prompt", "token id %d is not in the model's vocabulary of %d", id, s.vocab)
			}
		}
	}
	switch {
	case longest >= s.maxContext:
		return errTooLong("input_tokens", "the prompt has %d tokens; the context of %d tokens must hold it and at least one more", longest, s.maxContext)
	case longest+o.maxTokens > s.maxContext:
		return errTooLong("max_tokens", "the prompt's %d tokens and max_tokens of %d exceed the context of %d tokens", longest, o.maxTokens, s.maxContext)
	case o.maxTokens == 0:
		o.maxTokens = s.maxContext - longest
	}
	return nil
}

// generate runs a request and writes its answer in dialect d.
func (s *server) generate(w http.ResponseWriter, r *http.Request, prefix string, prompts [][]uint32, o options, d dialect) {
	id := r.Header.Get(requestIDHeader)
	if id == "" {
		id = uuid.NewString()
	}
	w.Header().Set(requestIDHeader, id)
	fail := s.fit(prompts, &o)
	var j *job
	if fail == nil {
		j, fail = s.newJob(r, id, prompts, o)
	}
	if fail == nil {
		fail = s.scheduler.submit(j)
	}
	if fail != nil {
		writeError(w, fail)
		return
	}
	defer s.scheduler.cancel(j) // whatever is left of it
	rep := &reply{id: prefix + id, model: s.name, created: time.Now().Unix(), options: o, choices: make([]choice, len(j.seqs))}
	for i := range rep.choices {
		rep.choices[i].index, rep.choices[i].prompt = i, prompts[i/o.n]
	}
	for _, p := range prompts {
		rep.usage.PromptTokens += len(p)
	}
	rep.usage.TotalTokens = rep.usage.PromptTokens
	if o.stream {
		s.stream(r.Context(), w, j, rep, d)
		return
	}
	if err := rep.collect(r.Context(), j, func(item, bool) error { return nil }); err != nil {
		if r.Context().Err() == nil {
			writeError(w, asAPIError(err))
		}
		return
	}
	writeJSON(w, http.StatusOK, d.whole(rep))
}

// collect takes items into the choices until each has finished. each sees an
// item first; last means that no other has come yet.
func (rep *reply) collect(ctx context.Context, j *job, each func(it item, last bool) error) error {
	var items []item
	for left := len(rep.choices); left > 0; {
		var err error
		if items, err = j.take(ctx, items[:0]); err != nil {
			return err
		}
		for i, it := range items {
			if it.err != nil {
				return it.err
			}
			rep.count(it)
			if err := each(it, i+1 == len(items)); err != nil {
				return err
			}
			rep.choices[it.index].add(it)
			if it.finish != "" {
				left--
			}
		}
	}
	return nil
}

// count brings the usage up to date. A prompt's tokens count once, not once a choice.
func (rep *reply) count(it item) {
	u := &rep.usage
	u.CompletionTokens += len(it.ids)
	u.TotalTokens += len(it.ids)
	if !rep.choices[it.index].started && it.index%rep.n == 0 {
		u.Details.CachedTokens += it.cached
	}
}

func (c *choice) add(it item) {
	c.started = true
	c.text += it.text
	c.ids = append(c.ids, it.ids...)
	c.logprobs = append(c.logprobs, it.logprobs...)
	c.finish, c.stopReason = it.finish, it.stopReason
}

// stream sends every item as it comes. Headers wait for the first, so that what
// fails before it has a proper status.
func (s *server) stream(ctx context.Context, w http.ResponseWriter, j *job, rep *reply, d dialect) {
	out := &eventStream{w: w, rc: http.NewResponseController(w)}
	err := rep.collect(ctx, j, func(it item, last bool) error {
		c := &rep.choices[it.index]
		if opening := d.opening(rep, c); opening != nil && !c.started {
			if err := out.send(opening); err != nil {
				return err
			}
		}
		if !c.started || it.text != "" || it.finish != "" || rep.returnTokenIDs || rep.wantLogprobs {
			if err := out.send(d.chunk(rep, c, it)); err != nil {
				return err
			}
		}
		if last {
			return out.flush()
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !out.begun:
		writeError(w, asAPIError(err))
		return
	case err != nil:
		_ = out.send(asAPIError(err))
	default:
		if rep.includeUsage {
			_ = out.send(d.usageChunk(rep))
		}
		_ = out.write([]byte("[DONE]"))
	}
	_ = out.flush() // an error here is the client's leaving
}

// eventStream writes server-sent events.
type eventStream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

func (e *eventStream) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return e.write(b)
}

func (e *eventStream) write(data []byte) error {
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		e.w.Header().Set("Cache-Control", "no-cache")
		e.w.WriteHeader(http.StatusOK)
	}
	_ = e.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has deadlines
	_, err := e.w.Write(append(append([]byte("data: "), data...), "\n\n"...))
	return err
}

func (e *eventStream) flush() error { return e.rc.Flush() }

// tokenText is a token by itself, as logprobs show it.
func (s *server) tokenText(id uint32) string {
	return string(s.tokenizer.Decode(nil, []uint32{id}, false))
}

// characters counts as Python's len does.
func characters(text string) int { return utf8.RuneCountInString(text) }
