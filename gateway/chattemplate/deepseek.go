package chattemplate

import "strings"

// The tokens and sentences that DeepSeek V3.2 and V4 share.
const (
	dsBOS        = "<｜begin▁of▁sentence｜>"
	dsEOS        = "<｜end▁of▁sentence｜>"
	dsUser       = "<｜User｜>"
	dsAssistant  = "<｜Assistant｜>"
	dsThink      = "<think>"
	dsThinkEnd   = "</think>"
	dsml         = "｜DSML｜"
	dsmlInvoke   = "<" + dsml + `invoke name="`
	dsmlEnd      = "</" + dsml
	dsmlArgument = "<" + dsml + `parameter name="`
)

// dsMessage is a message of a prepared conversation, as DeepSeek's encoders see it.
type dsMessage struct {
	path, role string
	content    Value // a string or a list of parts
	tools      []Value
	calls      []dsCall
	callID     Value // of a tool's answer
	reasoning  string
	task       string
	blocks     []dsBlock // V4: what a user's turn is made of
}

type dsCall struct {
	id        Value
	name      string
	arguments *dict
}

// dsBlock is a part of a user's turn: text, or the answer of a tool.
type dsBlock struct {
	text   string
	tool   bool
	callID Value
}

// dsConversation prepares the chat and reads what encoders look at.
func dsConversation(c Chat, parts bool) []dsMessage {
	prepared := (&Template{partsForm: parts}).conversation(field("messages", c.Messages))
	if len(prepared.items) == 0 {
		invalid("messages", "must not be empty")
	}
	out := make([]dsMessage, len(prepared.items))
	for i, item := range prepared.items {
		d := item.(*dict)
		path := nth("messages", i)
		m := dsMessage{path: path, role: mustText(d.getStr("role")), content: d.getStr("content"), callID: d.getStr("tool_call_id")}
		m.reasoning, _ = textField(path, d, "reasoning")
		m.task, _ = textField(path, d, "task")
		m.tools = arrayField(path, d, "tools")
		for _, call := range arrayField(path, d, "tool_calls") {
			fn := call.(*dict).getStr("function").(*dict)
			m.calls = append(m.calls, dsCall{call.(*dict).getStr("id"), mustText(fn.getStr("name")), fn.getStr("arguments").(*dict)})
		}
		out[i] = m
	}
	return out
}

// dsTools are the tools of the request as the encoders show them: a line each.
func dsTools(path string, tools []Value) string {
	defs := make([]string, len(tools))
	for i, tool := range tools {
		defs[i] = dumps(object(nth(path, i)+".function", object(nth(path, i), tool).getStr("function")))
	}
	return strings.Join(defs, "\n")
}

// dsCalls writes the calls of an assistant's turn as a DSML block of that name.
func dsCalls(block string, calls []dsCall) string {
	if len(calls) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\n<" + dsml + block + ">\n")
	for _, call := range calls {
		b.WriteString(dsmlInvoke + call.name + "\">\n")
		for i, key := range call.arguments.keys {
			if i > 0 {
				b.WriteByte('\n')
			}
			value, kind := call.arguments.vals[i], "false"
			text, isText := value.(str)
			if isText {
				kind = "true"
			} else {
				text = str(dumps(value))
			}
			b.WriteString(dsmlArgument + mustText(key) + `" string="` + kind + `">` + string(text) + dsmlEnd + "parameter>")
		}
		b.WriteString("\n" + dsmlEnd + "invoke>\n")
	}
	b.WriteString(dsmlEnd + block + ">")
	return b.String()
}

// lastUser is the index of the last message that a user or developer wrote, or -1.
func lastUser(messages []dsMessage) int {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].role == "user" || messages[i].role == "developer" {
			return i
		}
	}
	return -1
}

// withoutThinking drops the reasoning, and the messages of other roles than these,
// that stand before the last user's message.
func withoutThinking(messages []dsMessage, roles ...string) (out []dsMessage) {
	last := lastUser(messages)
	for i, m := range messages {
		kept := i >= last
		for _, role := range roles {
			kept = kept || m.role == role
		}
		if !kept && m.role == "assistant" {
			m.reasoning, kept = "", true
		}
		if kept {
			out = append(out, m)
		}
	}
	return out
}
