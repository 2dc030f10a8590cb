package chattemplate

import (
	"fmt"
	"slices"
	"strings"
)

// conversation prepares the messages of a request as vLLM does: only the fields that
// templates may see, in its order, with the content in the template's form and the
// arguments of tool calls parsed.
func (t *Template) conversation(v Value) *list {
	messages, ok := v.(*list)
	if !ok {
		invalid("messages", "must be an array")
	}
	out := &list{items: make([]Value, len(messages.items))}
	for i, m := range messages.items {
		at := fmt.Sprintf("messages[%d]", i)
		out.items[i] = t.message(at, object(at, m))
	}
	return out
}

func (t *Template) message(at string, m *dict) *dict {
	role, ok := m.getStr("role").(str)
	if !ok {
		invalid(at+".role", "must be a string")
	}
	out := &dict{}
	out.setStr("role", role)
	out.setStr("content", t.content(at+".content", role, m.getStr("content")))
	switch role {
	case "assistant":
		setToolCalls(out, at+".tool_calls", m.getStr("tool_calls"))
		reasoning := orNone(m.getStr("reasoning"))
		if reasoning == none {
			reasoning = orNone(m.getStr("reasoning_content"))
		}
		if reasoning != none {
			out.setStr("reasoning", reasoning)
			out.setStr("reasoning_content", reasoning)
		}
	case "tool":
		if id := m.getStr("tool_call_id"); id != nil {
			out.setStr("tool_call_id", id)
		}
	}
	for _, name := range []string{"name", "task"} {
		if s, ok := m.getStr(name).(str); ok {
			out.setStr(name, s)
		}
	}
	if role == "developer" {
		out.setStr("tools", orNone(m.getStr("tools")))
	}
	return out
}

// content is a message's content in the form that the template wants: a string, or
// a list of parts.
func (t *Template) content(at string, role str, v Value) Value {
	var parts []Value
	switch c := orNone(v).(type) {
	case noneType:
	case str:
		kept := true
		if role == "system" {
			c, kept = withoutBilling(c)
		}
		if kept && (!t.partsForm || role == "tool") {
			return c
		}
		if kept {
			parts = []Value{textPart(c)}
		}
	case *list:
		for i, part := range c.items {
			if p := contentPart(fmt.Sprintf("%s[%d]", at, i), role, part); p != nil {
				parts = append(parts, p)
			}
		}
	default:
		invalid(at, "must be a string, an array of parts or null")
	}
	if t.partsForm && (role != "tool" || !onlyText(parts)) {
		return &list{items: parts}
	}
	var texts []string
	for _, p := range parts {
		d := p.(*dict)
		s, ok := d.getStr("text").(str)
		if !ok {
			s = d.getStr("name").(str) // a tool reference
		}
		if s != "" || t.partsForm {
			texts = append(texts, string(s))
		}
	}
	return str(strings.Join(texts, "\n"))
}

// billingHeader begins a line that Claude Code puts before its system prompt, and that
// vLLM takes away: it is another one in every request.
const billingHeader = "x-anthropic-billing-header"

// withoutBilling is a text of a system message without that line; false if nothing is
// left.
func withoutBilling(s str) (str, bool) {
	if !strings.HasPrefix(string(s), billingHeader) {
		return s, true
	}
	_, rest, _ := strings.Cut(string(s), "\n")
	return str(rest), rest != ""
}

func textPart(s str) *dict {
	d := &dict{}
	d.setStr("type", str("text"))
	d.setStr("text", s)
	return d
}

func onlyText(parts []Value) bool {
	for _, p := range parts {
		if p.(*dict).getStr("text") == nil {
			return false
		}
	}
	return true
}

// partFields are the fields of parts that have a meaning; text parts keep all others.
var partFields = []string{
	"audio_embeds", "audio_url", "closed", "data", "file", "image_embeds", "image_pil", "image_url", "input_audio", "name",
	"prompt_cache_breakpoint", "refusal", "text", "thinking", "type", "uuid", "video_embeds", "video_url",
}

// contentPart is a part as templates see it; nil for one without text, which is skipped.
func contentPart(at string, role str, v Value) Value {
	if s, ok := v.(str); ok {
		return textPart(s)
	}
	part := object(at, v)
	kind, ok := part.getStr("type").(str)
	if !ok {
		invalid(at+".type", "must be a string")
	}
	switch kind {
	case "text", "input_text", "output_text", "refusal", "thinking":
		key := string(kind)
		if strings.HasSuffix(key, "text") {
			key = "text"
		}
		switch s := orNone(part.getStr(key)).(type) {
		case str:
			if role == "system" && kind == "text" {
				rest, ok := withoutBilling(s)
				if !ok {
					return nil
				}
				s = rest
			}
			made := textPart(s)
			keepOthers(made, part, partFields...)
			return made
		case noneType:
			if kind == "text" || kind == "refusal" {
				return nil
			}
		}
		invalid(at+"."+key, "must be a string")
	case "tool_reference":
		name, ok := part.getStr("name").(str)
		if !ok {
			invalid(at+".name", "must be a string")
		}
		d := &dict{}
		d.setStr("type", kind)
		d.setStr("name", name)
		return d
	case "image_url", "input_image", "image_pil", "image_embeds", "audio_url", "input_audio", "audio_embeds",
		"video_url", "prompt_embeds":
		panic(&InvalidError{Param: at, Err: fmt.Errorf("%s: %w", kind, ErrUnsupportedContent)})
	}
	invalid(at+".type", "unknown type of content part %q", string(kind))
	return nil
}

// setToolCalls adds a message's tool calls, unless there are none, with the fields and
// their order that the OpenAI types have, and the arguments as an object.
func setToolCalls(out *dict, at string, v Value) {
	if orNone(v) == none {
		return
	}
	calls, ok := v.(*list)
	if !ok {
		invalid(at, "must be an array")
	}
	if len(calls.items) == 0 {
		return
	}
	kept := &list{}
	for i, item := range calls.items {
		at := fmt.Sprintf("%s[%d]", at, i)
		call := object(at, item)
		fn := object(at+".function", call.getStr("function"))
		if _, ok := fn.getStr("name").(str); !ok {
			invalid(at+".function.name", "must be a string")
		}
		if kind := call.getStr("type"); kind != nil && kind != str("function") {
			invalid(at+".type", "must be function")
		}
		function := &dict{}
		function.setStr("arguments", toolArguments(at+".function.arguments", fn.getStr("arguments")))
		function.setStr("name", fn.getStr("name"))
		c := &dict{}
		setKnown(c, call, "id")
		c.setStr("function", function)
		setKnown(c, call, "type")
		keepOthers(c, call, "id", "function", "type")
		kept.items = append(kept.items, c)
	}
	out.setStr("tool_calls", kept)
}

// keepOthers copies the items that are none of those.
func keepOthers(dst, src *dict, those ...string) {
	for i, key := range src.keys {
		if name := mustText(key); !slices.Contains(those, name) {
			dst.setStr(name, src.vals[i])
		}
	}
}

// toolArguments is the object that the arguments' JSON text says; an empty one if it
// says none.
func toolArguments(at string, v Value) Value {
	if s, ok := v.(str); ok {
		args, err := fromJSON(string(s))
		if e, ok := err.(*Error); ok && e.Kind != kindJSON {
			panic(&InvalidError{Param: at, Err: err})
		}
		v = args
	}
	if args, ok := v.(*dict); ok {
		return args
	}
	return &dict{}
}

// continueMark is what transformers appends to the final message to find it again.
const continueMark = "CONTINUE_FINAL_MESSAGE_TAG "

// markFinal appends the mark to the final message's text and returns that text.
func (t *Template) markFinal(messages *list) string {
	const param = "continue_final_message"
	if len(messages.items) == 0 {
		invalid(param, "there is no final message to continue")
	}
	if !t.namesContent {
		invalid(param, "the chat template does not use the content of messages")
	}
	last := messages.items[len(messages.items)-1].(*dict)
	switch content := last.getStr("content").(type) {
	case str:
		last.setStr("content", content+continueMark)
		return string(content)
	case *list:
		for i := len(content.items) - 1; i >= 0; i-- {
			part := content.items[i].(*dict)
			if s, ok := part.getStr("text").(str); ok {
				part.setStr("text", s+continueMark)
				return string(s)
			}
		}
	}
	invalid(param, "there is no text to continue in the final message")
	return ""
}

// cutAtMark cuts the rendering right after the final message's text.
func cutAtMark(out, final string) string {
	mark := strings.TrimRight(continueMark, " ")
	at := strings.LastIndex(out, mark)
	if at < 0 || !strings.Contains(out, strings.TrimFunc(final, isSpace)) {
		invalid("continue_final_message", "the final message does not appear in what the chat template renders")
	}
	if strings.HasPrefix(out[at:], continueMark) {
		return out[:at]
	}
	return strings.TrimRightFunc(out[:at], isSpace)
}
