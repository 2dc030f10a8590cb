package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/workers"
)

// TokenCheck is what came of comparing our tokens with an engine's.
type TokenCheck struct {
	Result   string `json:"result"`
	Compared int    `json:"compared"` // probes that both sides answered
	// Difference is the first one found; nil: none.
	Difference *TokenDifference `json:"difference,omitempty"`
}

// Results of a TokenCheck.
const (
	// TokensMatch: every probe has the same tokens here and there.
	TokensMatch = "match"
	// TokenizerDiffers: plain text becomes other tokens.
	TokenizerDiffers = "tokenizer_differs"
	// TemplateDiffers: only chats do.
	TemplateDiffers = "template_differs"
	// TokensOfEngine: there is no tokenizer here; the engine is asked anyhow.
	TokensOfEngine = "engine"
	// TokensUnchecked: the engine has no route to ask.
	TokensUnchecked = "unchecked"
)

// TokenDifference is where two token lists part.
type TokenDifference struct {
	Probe    string `json:"probe"`
	Position int    `json:"position"`
	Here     string `json:"here"` // the token, as id and text
	There    string `json:"there"`
}

func (d *TokenDifference) String() string {
	return fmt.Sprintf("probe %q, token %d: %s here, %s at the engine", d.Probe, d.Position, d.Here, d.There)
}

// CheckTokens compares the tokens of the tokenizer at path with an engine's.
func CheckTokens(ctx context.Context, client *http.Client, engine workers.Info, path string) (TokenCheck, error) {
	l, err := loadLanguage(path, time.Now())
	if l == nil {
		return TokenCheck{}, err
	}
	return compareTokens(ctx, &engineTokens{client: client}, engine, l, time.Now)
}

// compareTokens runs the probes. A probe that the engine refuses says nothing;
// an error means that the engine could not be asked.
func compareTokens(ctx context.Context, there *engineTokens, engine workers.Info, l *language, now clock) (TokenCheck, error) {
	check := TokenCheck{Result: TokensMatch}
	for _, p := range probes {
		if p.endpoint == endpointChat && l.Renderer == nil {
			continue // such chats go to the engine anyhow
		}
		body := p.of(engine.Model)
		theirs, err := there.of(ctx, engine, p.endpoint.path(), body)
		var refused *refusedError
		switch {
		case errors.As(err, &refused):
			continue
		case errors.Is(err, errNoRoute):
			return TokenCheck{Result: TokensUnchecked}, nil
		case err != nil:
			return TokenCheck{}, fmt.Errorf("probe %q: %w", p.name, err)
		}
		ours, why, known := tokensHere(l, p, body, now)
		if !known {
			continue
		}
		check.Compared++
		if why == "" && slices.Equal(ours, theirs) {
			continue
		}
		check.Difference = difference(l, p.name, ours, theirs)
		if why != "" {
			check.Difference.Here = why
		}
		check.Result = TemplateDiffers
		if p.endpoint == endpointCompletion {
			check.Result = TokenizerDiffers
		}
		return check, nil // plain text comes first: what differs there differs everywhere
	}
	if check.Compared == 0 {
		check.Result = TokensUnchecked
	}
	return check, nil
}

// tokensHere is what the gateway makes of a probe: tokens, or the words with
// which its template refuses what the engine took. Unknown is what it would ask
// the engine for.
func tokensHere(l *language, p probe, body []byte, now clock) (tokens []uint32, why string, known bool) {
	q, err := parseInference(p.endpoint, body)
	if err != nil {
		return nil, err.Error(), true
	}
	if p.endpoint == endpointCompletion {
		var out promptTokens
		q.encodePrompts(&out, l)
		return out.tokens, "", true
	}
	tokens, reason, err := renderChat(l, q, now)
	switch {
	case err != nil:
		return nil, err.Error(), true
	case reason != "":
		return nil, "", false
	}
	return tokens, "", true
}

// difference finds where two lists that differ part.
func difference(l *language, name string, ours, theirs []uint32) *TokenDifference {
	i := 0
	for i < len(ours) && i < len(theirs) && ours[i] == theirs[i] {
		i++
	}
	show := func(ids []uint32) string {
		if i >= len(ids) {
			return "the end"
		}
		text, _ := l.Tokenizer.Token(ids[i])
		return fmt.Sprintf("%d %q", ids[i], text)
	}
	return &TokenDifference{Probe: name, Position: i, Here: show(ours), There: show(theirs)}
}
