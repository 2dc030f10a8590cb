package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
)

// tokenizeEndpoint is vLLM's POST /tokenize: a prompt, or messages through the
// chat template, to token ids.
func (g *Gateway) tokenizeEndpoint(c *gin.Context) error {
	body, fs, l, err := g.tokensRequest(c)
	if err != nil {
		return err
	}
	if l == nil {
		return g.passThrough(c, fs, "/tokenize", body)
	}
	e := endpointCompletion
	if fs.has(fieldMessages) {
		e = endpointChat
	}
	q, err := parseInference(e, body)
	if err != nil {
		return err
	}
	p, err := g.tokenize(c.Request.Context(), q)
	if err != nil {
		return err
	}
	if p.tokens == nil {
		return g.passThrough(c, fs, "/tokenize", body)
	}
	withText, err := fs.flag(fieldReturnTokenStrs, false)
	if err != nil {
		return err
	}
	answer := struct {
		Count       int      `json:"count"`
		MaxModelLen int      `json:"max_model_len"`
		Tokens      []uint32 `json:"tokens"`
		TokenStrs   []string `json:"token_strs"`
	}{Count: len(p.tokens), Tokens: p.tokens, MaxModelLen: g.card(c, q.model).MaxModelLen}
	for i := 0; withText && i < len(p.tokens); i++ {
		text, _ := l.Tokenizer.Token(p.tokens[i])
		answer.TokenStrs = append(answer.TokenStrs, text)
	}
	g.answer(c, answer)
	return nil
}

// detokenizeEndpoint is vLLM's POST /detokenize.
func (g *Gateway) detokenizeEndpoint(c *gin.Context) error {
	body, fs, l, err := g.tokensRequest(c)
	if err != nil {
		return err
	}
	if l == nil {
		return g.passThrough(c, fs, "/detokenize", body)
	}
	if !fs.has(fieldTokens) {
		return fail(CodeMissingParameter, "tokens", `"tokens" is required`)
	}
	var ids []uint32
	if json.Unmarshal(fs[fieldTokens], &ids) != nil {
		return wrongType("tokens", "an array of token ids")
	}
	g.answer(c, gin.H{"prompt": string(l.Tokenizer.Decode(nil, ids, false))})
	return nil
}

// tokensRequest reads a body and finds its model's language; nil: only the
// engine has it.
func (g *Gateway) tokensRequest(c *gin.Context) (body []byte, fs fields, l *language, err error) {
	if body, err = readBody(c.Writer, c.Request, g.c.Limits.Body); err != nil {
		return nil, fs, nil, err
	}
	if fs, _, err = findFields(body); err != nil {
		return nil, fs, nil, err
	}
	name, err := fs.text(fieldModel)
	if err != nil {
		return nil, fs, nil, err
	}
	if name == "" {
		return nil, fs, nil, fail(CodeMissingParameter, "model", `"model" is required; GET /v1/models lists the choices`)
	}
	if err := g.models.check(name, tenantOf(c.Request)); err != nil {
		return nil, fs, nil, err
	}
	return body, fs, g.models.language(name), nil
}

// passThrough lets a ready engine of the model answer.
func (g *Gateway) passThrough(c *gin.Context, fs fields, path string, body []byte) error {
	name, err := fs.text(fieldModel)
	if err != nil {
		return err
	}
	ready := g.serving(name, nil)
	if len(ready) == 0 {
		return g.noWorker(name)
	}
	req, err := http.NewRequestWithContext(c.Request.Context(), http.MethodPost, engineURL(ready[0].Info().URL, path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	ready[0].Info().Authorize(req.Header)
	resp, err := g.client.Do(req)
	if err != nil {
		return fail(CodeUpstreamFailed, "", "worker %s did not answer", ready[0].ID()).because(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, g.c.Limits.Answer))
	if err != nil {
		return fail(CodeUpstreamFailed, "", "worker %s broke off its answer", ready[0].ID()).because(err)
	}
	writeJSON(c.Writer, resp.StatusCode, answer)
	return nil
}
