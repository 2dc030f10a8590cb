package gateway

import (
	"context"
	"errors"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/dialect"
	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Who counted a prompt's tokens.
const (
	fromGateway = "gateway"
	fromClient  = "client"
	fromEngine  = "engine"
	fromNobody  = "none"
)

// Why only the engine can know a chat's tokens.
const (
	reasonMultimodal = "multimodal"
	reasonTemplate   = "template"
)

// promptTokens is a request's prompt as the router sees it.
type promptTokens struct {
	// tokens of the prompt, of the first one if there are several; nil if
	// unknown.
	tokens []uint32
	// total over all prompts.
	total int
	from  string
	// batch is set when there are several prompts: a restore plan names blocks
	// of one, so there is none.
	batch bool

	// hashes of the full blocks, for blockSize.
	blockSize int
	root      kv.Hash
	hashes    []kv.Hash
}

// chain hashes the prompt into blocks, once for a block size.
func (p *promptTokens) chain(model, salt string, blockSize int) {
	if p.tokens == nil || p.blockSize == blockSize {
		return
	}
	p.blockSize = blockSize
	p.root = kv.RootSpec{Model: model, Salt: salt, BlockSize: blockSize}.Hash()
	p.hashes = kv.Chain(make([]kv.Hash, 0, len(p.tokens)/blockSize), p.root, p.tokens, blockSize)
}

// tokenize finds the exact tokens of q's prompt. What can't be known exactly
// is left out, with the reason counted, and the request is routed by load.
func (g *Gateway) tokenize(ctx context.Context, q *inference) (*promptTokens, error) {
	if q.opaque != "" {
		return g.untokenized(q, q.opaque), nil
	}
	l, whole := g.models.language(q.model), g.models.whole(q.model)
	if p, known, err := g.tokenizeHere(q, l); known || err != nil {
		return p, err
	}
	if whole != l {
		return g.tokenizeDoubted(ctx, q, whole)
	}
	return g.tokenizeAtEngine(ctx, q), nil
}

// tokenizeHere finds the tokens without the engine, if they can be known here.
func (g *Gateway) tokenizeHere(q *inference, l *language) (p *promptTokens, known bool, err error) {
	p = &promptTokens{from: fromGateway}
	switch {
	case q.endpoint == endpointCompletion && (l != nil || allTokens(q.prompts)):
		if err := q.encodePrompts(p, l); err != nil {
			return nil, false, nil // too costly to split here
		}
	case q.endpoint == endpointChat && l != nil && l.Renderer != nil:
		tokens, reason, err := renderChat(l, q, g.c.Now)
		if err != nil {
			return nil, false, err
		}
		if reason == reasonTemplate {
			return nil, false, nil
		}
		if reason != "" {
			return g.untokenized(q, reason), true, nil
		}
		p.tokens = tokens
		p.total = len(p.tokens)
	default:
		return nil, false, nil
	}
	return p, true, q.truncate(p)
}

// truncate applies truncate_prompt_tokens as engines do: the last n are kept.
func (q *inference) truncate(p *promptTokens) error {
	n, err := q.fields.count(fieldTruncatePrompt, -1, 0)
	if err == nil && n > 0 && len(p.tokens) > n {
		p.total -= len(p.tokens) - n
		p.tokens = p.tokens[len(p.tokens)-n:]
	}
	return err
}

func allTokens(prompts []prompt) bool {
	for _, p := range prompts {
		if p.tokens == nil {
			return false
		}
	}
	return true
}

// encodePrompts fails where only the engine can tell the tokens.
func (q *inference) encodePrompts(p *promptTokens, l *language) (err error) {
	if allTokens(q.prompts) {
		p.from = fromClient
	}
	for i, one := range q.prompts {
		ids := one.tokens
		if ids == nil {
			if ids, err = l.Encode(nil, one.text, q.addSpecial); err != nil {
				return err
			}
		}
		if i == 0 {
			p.tokens = ids
		}
		p.total += len(ids)
	}
	p.batch = len(q.prompts) > 1
	return nil
}

// renderChat is the prompt's tokens, or the reason why only the engine can make
// them. A template that refuses the request is the client's error.
func renderChat(l *language, q *inference, now clock) (tokens []uint32, reason string, err error) {
	effort, err := q.fields.text(fieldReasoningEffort)
	if err != nil {
		return nil, "", err
	}
	prompt, err := l.Renderer.Prompt(chattemplate.Chat{
		Messages:             q.fields[fieldMessages],
		Tools:                q.fields[fieldTools],
		Documents:            q.fields[fieldDocuments],
		AddGenerationPrompt:  q.addGenerationPrompt,
		ContinueFinalMessage: q.continueFinalMessage,
		ReasoningEffort:      effort,
		Kwargs:               q.fields[fieldTemplateKwargs],
		SpecialTokens:        l.Tokenizer.SpecialTokens(),
		Now:                  now(),
	})
	if err == nil {
		tokens, err = l.EncodePrompt(nil, prompt, q.addSpecial)
	}
	var invalid *chattemplate.InvalidError
	var broken *chattemplate.Error
	switch {
	case err == nil:
		return tokens, "", nil
	case errors.Is(err, chattemplate.ErrUnsupportedContent):
		return nil, reasonMultimodal, nil
	case errors.As(err, &invalid):
		return nil, "", fail(CodeInvalidMessages, invalid.Param, "%v", invalid.Err).quoting()
	case errors.As(err, &broken) && broken.Kind == dialect.Raised:
		// The template's own words for the client.
		return nil, "", fail(CodeInvalidMessages, "messages", "the model's chat template refused the messages: %s", broken.Message).quoting()
	}
	// A template that we can't run: the engine may, or will say why not.
	return nil, reasonTemplate, nil
}

func (g *Gateway) untokenized(q *inference, reason string) *promptTokens {
	g.metrics.untokenized.WithLabelValues(q.model, reason).Inc()
	return &promptTokens{from: fromNobody}
}

// tokenizeAtEngine asks a ready engine for the tokens.
func (g *Gateway) tokenizeAtEngine(ctx context.Context, q *inference) *promptTokens {
	ready := g.serving(q.model, nil)
	if len(ready) == 0 {
		return &promptTokens{from: fromNobody} // placing will say so
	}
	if q.endpoint == endpointCompletion && len(q.prompts) > 1 {
		return g.untokenized(q, "batch")
	}
	tokens, err := g.c.EngineTokens(ctx, ready[0].Info(), q.endpoint.path(), q.body)
	if err != nil {
		g.c.Log.Debug("the engine did not tokenize; routing by load", "model", q.model, "worker", ready[0].Info().ID, "error", err)
		return g.untokenized(q, "no_tokenizer")
	}
	return &promptTokens{tokens: tokens, total: len(tokens), from: fromEngine}
}
