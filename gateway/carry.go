package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// A stream survives its worker: what was generated is kept, and another worker
// is asked to go on from prompt and generated tokens, with what remains of
// max_tokens. The client sees one unbroken stream. carry.go decides whether that
// can be exact and what is asked; continued.go turns the answer into the
// stream's own events.

// carried is a stream that goes on at another worker than it began with.
type carried struct {
	asked *promptTokens // the client's own prompt
	head  chunkHead
	// ids of the answer before this worker. text is what the client has of it,
	// beyond is what it has that the ids don't say, and so is not said again.
	ids       []uint32
	generated int // tokens so far, those without text among them
	text      string
	beyond    string
}

// chunkHead is what all events of a stream have in common.
type chunkHead struct {
	ID                string          `json:"id"`
	Object            string          `json:"object"`
	Created           int64           `json:"created"`
	Model             string          `json:"model"`
	SystemFingerprint json.RawMessage `json:"system_fingerprint,omitempty"`
}

const (
	// carryPatience is how long a stream waits for a worker to go on at.
	carryPatience = 30 * time.Second
	// lookAround is how often it looks.
	lookAround = 50 * time.Millisecond
	// takeAgain is how long it waits before it takes one that failed it before.
	takeAgain = time.Second
)

// uncarriable says why the stream, if its worker dies, could not go on exactly
// elsewhere; "" if it could.
func (q *inference) uncarriable() string {
	f := &q.fields
	switch {
	case !q.stream:
		return "it is not a stream"
	case f.above(fieldN, 1) || f.above(fieldBestOf, 1) || string(f[fieldUseBeamSearch]) == "true":
		return "it has several answers"
	case string(f[fieldEcho]) == "true", f.has(fieldPromptLogprobs):
		return "it echoes its prompt"
	case f.has(fieldStructuredOutputs), f.has(fieldGuidedJSON), f.has(fieldGuidedRegex), f.has(fieldGuidedChoice), f.has(fieldGuidedGrammar),
		f.has(fieldResponseFormat) && !plainText(f[fieldResponseFormat]):
		return "its output is guided by a grammar, whose state is with the engine"
	case f.has(fieldTools) && string(f[fieldToolChoice]) != `"none"`:
		return "it may call tools, which the engine takes from the text"
	case f.has(fieldSeed) && !f.zero(fieldTemperature):
		return "it is sampled from a seed, whose random numbers are with the engine"
	case f.has(fieldPresencePenalty) && !f.zero(fieldPresencePenalty), f.has(fieldFrequencyPenalty) && !f.zero(fieldFrequencyPenalty):
		return "it penalises what was generated, which engines do not count in a prompt"
	}
	return ""
}

// above reports whether a number is given and above n.
func (fs *fields) above(f field, n float64) bool {
	v, err := strconv.ParseFloat(string(fs[f]), 64)
	return err == nil && v > n
}

// zero reports whether a number is given as 0.
func (fs *fields) zero(f field) bool {
	v, err := strconv.ParseFloat(string(fs[f]), 64)
	return err == nil && v == 0
}

func plainText(format []byte) bool {
	return string(stringAfter(format, []byte(`"type":"`))) == "text" || string(stringAfter(format, []byte(`"type": "`))) == "text"
}

// stuck says why the stream cannot go on elsewhere, "" if it can.
func (x *exchange) stuck() string {
	switch {
	case !x.carriable:
		if why := x.q.uncarriable(); why != "" {
			return why
		}
		return "its exact tokens are not known here"
	case x.heard.parsed != "":
		return "the engine made " + x.heard.parsed + " of its text"
	case x.migrations >= x.g.c.Limits.Migrations:
		return fmt.Sprintf("it was carried on %d times already", x.migrations)
	case x.suspicion > mostSuspicion:
		return "workers die of it"
	}
	return ""
}

// carryOn prepares the stream to go on at another worker than the one that
// failed it. done says that nothing was missing but its end, which is sent.
func (x *exchange) carryOn(failed *placement, cause error) (done bool, err error) {
	if why := x.stuck(); why != "" {
		return false, notContinued(cause, why)
	}
	if err := x.resume(failed, cause); err != nil {
		return false, notContinued(cause, err.Error())
	}
	if x.answer.finish != "" || x.q.maxTokens > 0 && len(x.carry.ids) >= x.q.maxTokens {
		return true, x.conclude()
	}
	x.migrations++
	x.tried = map[kv.WorkerID]bool{failed.worker.ID(): true}
	x.g.metrics.migrations.WithLabelValues(x.q.model).Inc()
	x.entry.update(func(r *Record) {
		r.Failed = append(r.Failed, FailedAttempt{Worker: failed.worker.ID(), Why: asError(cause).forLog()})
		r.Onboard = nil
		r.Migrations = x.migrations
	})
	x.log().Warn("a stream goes on at another worker", "failed", failed.worker.ID(), "generated", len(x.carry.ids), "error", asError(cause).forLog())
	return false, nil
}

// mostSuspicion is how surely a request may be what kills its workers: one that
// kills engines must not be carried through the fleet.
const mostSuspicion = 2.5

// suspect counts a worker that died of one of its requests, which may have been
// this one as well as any other, unless it was dead before.
func (x *exchange) suspect(failed *placement, cause error) {
	if op := (*net.OpError)(nil); errors.As(cause, &op) && op.Op == "dial" {
		return
	}
	x.suspicion += 1 / float64(max(1, failed.company))
}

// notContinued is the error that ends a stream which could not go on.
func notContinued(cause error, why string) error {
	e := *asError(cause)
	e.Message += ", and the stream cannot go on elsewhere: " + why
	return &e
}

// resume works out what the next worker is asked.
func (x *exchange) resume(failed *placement, cause error) error {
	c := x.carry
	if c == nil {
		c = &carried{asked: x.prompt}
		if err := json.Unmarshal(x.heard.head, &c.head); err != nil {
			return fmt.Errorf("its first event cannot be read: %w", err)
		}
		x.carry = c
	}
	before := len(c.ids)
	text, err := decodeString(append(append([]byte{'"'}, x.heard.text...), '"'))
	if err != nil {
		return fmt.Errorf("its text cannot be read: %w", err)
	}
	c.text = string(text)
	c.generated = len(x.heard.ids) + len(x.heard.held)
	if c.ids, c.beyond, err = x.settleIDs(c.text); err != nil {
		return err
	}
	x.heard.ids, x.heard.held = c.ids, nil
	if len(c.ids) == before {
		x.suspect(failed, cause)
	} else {
		x.suspicion = 0
	}
	tokens := make([]uint32, 0, len(c.asked.tokens)+len(c.ids))
	tokens = append(append(tokens, c.asked.tokens...), c.ids...)
	x.prompt = &promptTokens{tokens: tokens, total: len(tokens), from: c.asked.from}
	return nil
}

// settleIDs are generated tokens whose text the client has, and what it has
// beyond them. An engine's last event may have brought the text of one token and
// begun another's, so the ids are checked against the text where the model's
// tokenizer is here.
func (x *exchange) settleIDs(text string) (ids []uint32, beyond string, err error) {
	l := x.g.models.language(x.q.model)
	if x.heard.unnamed {
		if l == nil {
			return nil, "", errors.New("its engine does not name the tokens it generates, and the model's tokenizer is not here")
		}
		// The engine's own tokens may have been cut differently; the text is the same.
		ids, err := l.Tokenizer.TryEncodePlain(nil, text)
		return ids, "", err
	}
	ids = x.heard.ids
	if l == nil {
		return ids, "", nil
	}
	for k := len(ids); k >= max(0, len(ids)-8); k-- {
		said := l.Tokenizer.Decode(nil, ids[:k], !x.keepsSpecial())
		if rest, ok := strings.CutPrefix(text, string(said)); ok {
			return ids[:k], rest, nil
		}
	}
	return ids, "", nil
}

// awaitWorker waits until a worker could take on what the last one lost. placing
// is why none could.
func (x *exchange) awaitWorker(placing error, lost time.Time) bool {
	if asError(placing).Code != CodeNoWorker || x.carry == nil && x.lost == 0 && len(x.g.serving(x.q.model, nil)) > 0 {
		return false // or all that are ready have refused it
	}
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for x.g.c.Now().Sub(lost) < carryPatience {
		select {
		case <-x.ctx.Done():
			return false
		case <-tick.C:
		}
		if x.g.c.Now().Sub(lost) > takeAgain {
			clear(x.tried) // it may be the only one, and have come back
		}
		if len(x.g.serving(x.q.model, x.tried)) > 0 {
			return true
		}
	}
	return false
}

// passedOn are the members of the client's request that mean the same in the
// continuing one.
var passedOn = map[string]bool{
	"model": true, "stream": true, "stream_options": true, "user": true, "priority": true, "vllm_xargs": true,
	"temperature": true, "top_p": true, "top_k": true, "min_p": true, "seed": true, "stop": true, "stop_token_ids": true, "ignore_eos": true,
	"include_stop_str_in_output": true, "skip_special_tokens": true, "spaces_between_special_tokens": true, "logit_bias": true, "bad_words": true,
	"allowed_token_ids": true, "repetition_penalty": true, "length_penalty": true, "return_tokens_as_token_ids": true,
}

// continuing is the request that has a worker go on: a completion of tokens,
// with the client's sampling.
func (x *exchange) continuing(context int) ([]byte, error) {
	q, c := x.q, x.carry
	most := q.maxTokens
	if most == 0 {
		// A chat's answer is as long as the context allows; a completion's default
		// would be a few tokens.
		if context == 0 {
			return nil, errors.New("how long its answer may be is not known here")
		}
		if most = context - len(c.asked.tokens); q.endpoint == endpointCompletion {
			most = min(most, defaultCompletionTokens)
		}
	}
	b := []byte(`{"return_token_ids":true,"prompt":[`)
	for i, id := range x.prompt.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	b = fmt.Appendf(b, `],"max_tokens":%d,"add_special_tokens":false`, most-len(c.ids))
	if least, err := strconv.Atoi(string(q.fields[fieldMinTokens])); err == nil && least > len(c.ids) {
		b = fmt.Appendf(b, `,"min_tokens":%d`, least-len(c.ids))
	}
	if n, ok := q.logprobs(); ok {
		b = fmt.Appendf(b, `,"logprobs":%d`, n)
	}
	if q.salt != "" {
		salt, err := json.Marshal(q.salt)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"cache_salt":`...), salt...)
	}
	err := eachField(q.body, func(key, value []byte) error {
		if passedOn[string(key)] {
			b = fmt.Appendf(b, ",%q:%s", key, value)
		}
		return nil
	})
	return append(b, '}'), err
}

// defaultCompletionTokens is OpenAI's default of max_tokens for completions.
const defaultCompletionTokens = 16

// logprobs is how many alternatives the client wants to see of each token.
func (q *inference) logprobs() (n int, wanted bool) {
	raw := q.fields[fieldLogprobs]
	if q.endpoint == endpointChat {
		if string(raw) != "true" {
			return 0, false
		}
		raw = q.fields[fieldTopLogprobs]
		if raw == nil {
			return 0, true
		}
	}
	n, err := strconv.Atoi(string(raw))
	return n, err == nil
}

// keepsSpecial reports whether the client sees special tokens as text.
func (x *exchange) keepsSpecial() bool {
	keeps := false
	_ = eachField(x.q.body, func(key, value []byte) error {
		if string(key) == "skip_special_tokens" {
			keeps = bytes.Equal(value, []byte("false"))
		}
		return nil
	})
	return keeps
}
