package gateway

import "github.com/gin-gonic/gin"

// explain decides about the body of a chat or completion request as if it had
// come now, without dispatching it and without any effect on what is decided
// next.
func (g *Gateway) explain(c *gin.Context) error {
	body, err := readBody(c.Writer, c.Request, g.c.Limits.Body)
	if err != nil {
		return err
	}
	fs, _, err := findFields(body)
	if err != nil {
		return err
	}
	e := endpointChat
	if fs.has(fieldPrompt) && !fs.has(fieldMessages) {
		e = endpointCompletion
	}
	x := &exchange{g: g, r: c.Request, endpoint: e, ctx: c.Request.Context(), entry: &entry{r: Record{Time: g.c.Now(), Endpoint: string(e)}}}
	if x.q, err = parseInference(e, body); err != nil {
		return err
	}
	x.entry.r.Model, x.entry.r.Stream = x.q.model, x.q.stream
	if err := g.models.check(x.q.model, nil); err != nil {
		return err
	}
	if err := x.readPrompt(); err != nil {
		return err
	}
	ready, err := x.candidates()
	if err != nil {
		return err
	}
	g.placing.Lock()
	policy := g.c.Policy.Fork()
	g.placing.Unlock()
	x.decide(ready, policy, nil)
	g.answer(c, x.entry.snapshot())
	return nil
}
