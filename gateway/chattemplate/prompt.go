package chattemplate

import "strings"

// A Prompt is what a chat renders to: pieces, each of which is turned into ids by
// itself, so that neighbours never merge into one token.
type Prompt []Piece

// Piece is one part of a prompt.
type Piece struct {
	Kind Kind
	Text string
}

// Kind says how a piece becomes ids.
type Kind uint8

const (
	// Markup is text as Jinja templates and DeepSeek's encoders make it. The engine
	// looks for special tokens in all of it, so a user who writes one forges one; the
	// gateway's tokens must agree.
	Markup Kind = iota
	// Plain is text in which nothing is special, whatever it looks like.
	Plain
	// Control is one special token, by its text.
	Control
)

// String is the prompt as text, which need not encode to the prompt's ids.
func (p Prompt) String() string {
	var b strings.Builder
	for _, piece := range p {
		b.WriteString(piece.Text)
	}
	return b.String()
}

// plain appends text that is encoded by itself; empty text is no piece.
func (p *Prompt) plain(text string) {
	if text != "" {
		*p = append(*p, Piece{Plain, text})
	}
}

func (p *Prompt) control(token string) { *p = append(*p, Piece{Control, token}) }

// Renderer turns the chats of one model into prompts, as the model's engine does.
// It is immutable and safe for concurrent use.
//
// An error is an *InvalidError if the request is at fault, else an *Error.
type Renderer interface {
	Prompt(Chat) (Prompt, error)
}

// Prompt renders the chat, see RenderChat.
func (t *Template) Prompt(c Chat) (Prompt, error) {
	text, err := t.RenderChat(c)
	if err != nil {
		return nil, err
	}
	return Prompt{{Markup, text}}, nil
}

// caught turns what ends the rendering of a chat into its error.
func caught(err *error) {
	switch p := recover().(type) {
	case nil:
	case *InvalidError:
		*err = p
	case *Error: // beyond a bound while preparing
		*err = &InvalidError{Param: "messages", Err: p}
	default:
		panic(p)
	}
}

// dumps is json.dumps(v, ensure_ascii=False).
func dumps(v Value) string {
	w := &jsonWriter{r: &renderer{budget: fullBudget}, itemSep: ", ", keySep: ": "}
	w.value(v, 0)
	return w.b.String()
}

// parsed reads JSON that a request holds as text; false if it is none.
func parsed(s string) (Value, bool) {
	v, err := fromJSON(s)
	if e, ok := err.(*Error); ok {
		if e.Kind != kindJSON {
			panic(e)
		}
		return nil, false
	}
	return v, true
}

// messageList is the request's messages, each an object, with the deprecated
// reasoning_content under its present name, as vLLM reads them.
func messageList(raw []byte) []*dict {
	messages, ok := field("messages", raw).(*list)
	if !ok {
		invalid("messages", "must be an array")
	}
	out := make([]*dict, len(messages.items))
	for i, item := range messages.items {
		m := object(nth("messages", i), item)
		if old := orNone(m.getStr("reasoning_content")); old != none && orNone(m.getStr("reasoning")) == none {
			m.setStr("reasoning", old)
		}
		m.delete("reasoning_content")
		out[i] = m
	}
	return out
}
