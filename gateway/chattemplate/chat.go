package chattemplate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Chat is one chat request, as far as its prompt depends on it.
// The raw fields hold the request's own JSON, so that key order survives.
type Chat struct {
	Messages             json.RawMessage
	Tools                json.RawMessage // nil if none
	Documents            json.RawMessage // nil if none
	AddGenerationPrompt  bool
	ContinueFinalMessage bool
	ReasoningEffort      string            // "" if the request has none
	Kwargs               json.RawMessage   // chat_template_kwargs, nil if none
	SpecialTokens        map[string]string // bos_token, eos_token, ...
	Now                  time.Time
}

// ErrUnsupportedContent marks a message part that only the engine can render,
// such as an image. It is wrapped in an *InvalidError that names the part.
var ErrUnsupportedContent = errors.New("content of this type is rendered by the engine only")

// InvalidError is a chat that cannot be rendered because of what the request holds.
type InvalidError struct {
	Param string // the field, such as messages[2].content
	Err   error
}

func (e *InvalidError) Error() string { return e.Param + ": " + e.Err.Error() }

func (e *InvalidError) Unwrap() error { return e.Err }

// invalid ends the preparation of a chat, as raise ends a rendering.
func invalid(param, format string, args ...any) {
	panic(&InvalidError{Param: param, Err: fmt.Errorf(format, args...)})
}

// RenderChat prepares the chat as vLLM prepares it and renders it. A fault of the
// request is an *InvalidError. An *Error is the template's own: most templates raise
// one for messages that they do not accept, and vLLM answers 400 to any.
func (t *Template) RenderChat(c Chat) (out string, err error) {
	defer caught(&err)
	messages := t.conversation(field("messages", c.Messages))
	ctx := context(c)
	ctx.setStr("messages", messages)
	size := len(c.Messages) + 2*len(c.Tools)
	if !c.ContinueFinalMessage {
		return t.render(ctx, c.Now, size, fullBudget)
	}
	if c.AddGenerationPrompt {
		invalid("continue_final_message", "cannot be used together with add_generation_prompt")
	}
	final := t.markFinal(messages)
	if out, err = t.render(ctx, c.Now, size, fullBudget); err != nil {
		return "", err
	}
	return cutAtMark(out, final), nil
}

// field reads a field of the request; nil if it is absent or null.
func field(name string, raw json.RawMessage) Value {
	if len(raw) == 0 {
		return nil
	}
	v, err := FromJSON(raw)
	if err != nil {
		panic(&InvalidError{Param: name, Err: err})
	}
	if v == none {
		return nil
	}
	return v
}

// context collects the variables other than messages: special tokens, then what the
// request passes for the template, then the request's own fields.
func context(c Chat) *dict {
	ctx := &dict{}
	for name, token := range c.SpecialTokens {
		ctx.setStr(name, str(strings.ToValidUTF8(token, "\uFFFD")))
	}
	for _, name := range []string{"tools", "documents"} {
		ctx.setStr(name, none)
	}
	if tools := field("tools", c.Tools); tools != nil {
		ctx.setStr("tools", toolList(tools))
	}
	if kwargs := field("chat_template_kwargs", c.Kwargs); kwargs != nil {
		d, ok := kwargs.(*dict)
		if !ok {
			invalid("chat_template_kwargs", "must be an object")
		}
		for i, k := range d.keys {
			switch name := mustText(k); name {
			case "chat_template", "tokenize", "messages", "conversation":
				invalid("chat_template_kwargs."+name, "is set by the server, not by a request")
			case "tools":
				if d.vals[i] == none {
					continue
				}
			}
			ctx.set(k, d.vals[i])
		}
	}
	if c.ReasoningEffort != "" {
		ctx.setStr("reasoning_effort", str(strings.ToValidUTF8(c.ReasoningEffort, "\uFFFD")))
		if ctx.getStr("enable_thinking") == nil {
			ctx.setStr("enable_thinking", boolean(c.ReasoningEffort != "none"))
		}
	}
	if documents := field("documents", c.Documents); documents != nil {
		ctx.setStr("documents", documents)
	}
	ctx.setStr("add_generation_prompt", boolean(c.AddGenerationPrompt))
	ctx.delete("continue_final_message")
	return ctx
}

// toolList gives tools the fields, and those the order, that vLLM's request model has.
func toolList(v Value) Value {
	tools, ok := v.(*list)
	if !ok {
		invalid("tools", "must be an array")
	}
	out := &list{}
	for i, item := range tools.items {
		at := fmt.Sprintf("tools[%d]", i)
		tool := object(at, item)
		fn := object(at+".function", tool.getStr("function"))
		if _, ok := fn.getStr("name").(str); !ok {
			invalid(at+".function.name", "must be a string")
		}
		def := &dict{}
		for _, name := range []string{"name", "description", "parameters"} {
			def.setStr(name, orNone(fn.getStr(name)))
		}
		kept := &dict{}
		kept.setStr("type", str("function"))
		kept.setStr("function", def)
		setKnown(def, fn, "strict")
		setKnown(def, tool, "defer_loading")
		setKnown(def, fn, "defer_loading")
		setKnown(kept, tool, "defer_loading")
		out.items = append(out.items, kept)
	}
	return out
}

// setKnown copies an item that is there and not null.
func setKnown(dst, src *dict, name string) {
	if v := src.getStr(name); v != nil && v != none {
		dst.setStr(name, v)
	}
}

func object(at string, v Value) *dict {
	d, ok := v.(*dict)
	if !ok {
		invalid(at, "must be an object")
	}
	return d
}
