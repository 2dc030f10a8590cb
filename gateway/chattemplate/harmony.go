package chattemplate

import (
	"slices"
	"strings"
)

// Harmony renders chats for gpt-oss: vLLM builds Harmony messages from the request,
// and OpenAI's library renders those. No user text can become a special token.
//
// The system message holds the date, which engines read from their own clock at
// every request; so ours must agree on the day.
type Harmony struct{}

const harmonyIdentity = "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: "

const (
	harmonyChannels    = "\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message."
	harmonyToolChannel = "\nCalls to these tools must go to the commentary channel: 'functions'."
)

// harmonyMessage is one message of a Harmony conversation. The header holds what
// stands between role and content, and differs between calls of a tool and what
// tools answer: the models were trained on the former order, the library has
// since changed the latter.
type harmonyMessage struct {
	author, channel, suffix string
	contents                []string
	call                    bool
}

// Prompt renders the chat, ready for the assistant's turn. Harmony has no prompt
// without one: add_generation_prompt and continue_final_message change nothing.
func (Harmony) Prompt(c Chat) (p Prompt, err error) {
	defer caught(&err)
	messages := messageList(c.Messages)
	instructions, given := "", false
	if len(messages) > 0 && isInstruction(messages[0]) {
		instructions, given = harmonyText("messages[0].content", messages[0].getStr("content"))
	}
	tools := harmonyTools(c)
	all := []harmonyMessage{{author: "system", contents: []string{harmonySystem(c, tools != "")}}}
	if instructions != "" || tools != "" {
		all = append(all, developerMessage(instructions, given, tools))
	}
	all = append(all, dropAnalysis(harmonyMessages(messages))...)
	for _, m := range all {
		m.render(&p)
	}
	p.control("<|start|>")
	p.plain("assistant")
	return p, nil
}

func isInstruction(m *dict) bool {
	role := m.getStr("role")
	return role == str("system") || role == str("developer")
}

func harmonySystem(c Chat, tools bool) string {
	effort := c.ReasoningEffort
	switch effort {
	case "":
		effort = "medium"
	case "low", "medium", "high":
	default:
		invalid("reasoning_effort", "%q is not supported by Harmony; use low, medium or high", effort)
	}
	text := harmonyIdentity + c.Now.Format("2006-01-02") + "\n\nReasoning: " + effort + harmonyChannels
	if tools {
		text += harmonyToolChannel
	}
	return text
}

func developerMessage(instructions string, given bool, tools string) harmonyMessage {
	var sections []string
	if given {
		sections = append(sections, "# Instructions", instructions)
	}
	if tools != "" {
		sections = append(sections, tools)
	}
	return harmonyMessage{author: "developer", contents: []string{strings.Join(sections, "\n\n")}}
}

// render writes the message; each string of it is encoded by itself.
func (m *harmonyMessage) render(p *Prompt) {
	p.control("<|start|>")
	p.plain(m.author)
	if m.channel != "" {
		p.control("<|channel|>")
		p.plain(m.channel + m.suffix)
	}
	p.control("<|message|>")
	for _, text := range m.contents {
		p.plain(text)
	}
	if m.call {
		p.control("<|call|>")
	} else {
		p.control("<|end|>")
	}
}

// dropAnalysis leaves out the reasoning that led to an earlier final answer.
func dropAnalysis(messages []harmonyMessage) []harmonyMessage {
	last := len(messages) - 1
	for last >= 0 && messages[last].channel != "final" {
		last--
	}
	i := 0
	return slices.DeleteFunc(messages, func(m harmonyMessage) bool {
		i++
		return i <= last && m.channel == "analysis"
	})
}

// harmonyMessages are the request's messages after leading instructions.
func harmonyMessages(messages []*dict) []harmonyMessage {
	names := map[Value]string{} // of functions, by the id of their call
	for i, m := range messages {
		for _, call := range harmonyCalls(nth("messages", i), m) {
			names[call.id] = call.name
		}
	}
	var out []harmonyMessage
	for i, m := range messages {
		if i > 0 || !isInstruction(m) {
			out = append(out, harmonyOf(nth("messages", i), m, names)...)
		}
	}
	return out
}

type harmonyCall struct {
	id              Value
	name, arguments string
}

func harmonyCalls(path string, m *dict) []harmonyCall {
	var out []harmonyCall
	for i, item := range arrayField(path, m, "tool_calls") {
		call := object(nth(path+".tool_calls", i), item)
		fn := object(nth(path+".tool_calls", i)+".function", call.getStr("function"))
		c := harmonyCall{id: call.getStr("id")}
		c.name, _ = textField(nth(path+".tool_calls", i)+".function", fn, "name")
		c.arguments, _ = textField(nth(path+".tool_calls", i)+".function", fn, "arguments")
		out = append(out, c)
	}
	return out
}

// harmonyOf is what one message of the request becomes.
func harmonyOf(path string, m *dict, names map[Value]string) []harmonyMessage {
	role, _ := textField(path, m, "role")
	text, hasText := harmonyText(path+".content", m.getStr("content"))
	switch role {
	case "assistant":
		return harmonyAssistant(path, m, text)
	case "tool":
		author := "functions." + names[m.getStr("tool_call_id")]
		return []harmonyMessage{{author: author, channel: "commentary", suffix: " to=assistant", contents: []string{text}}}
	case "system", "developer":
		if !hasText {
			return nil
		}
		return []harmonyMessage{developerMessage(text, true, "")}
	case "user":
		return []harmonyMessage{{author: "user", contents: harmonyContents(path+".content", m.getStr("content"))}}
	}
	invalid(path+".role", "%q is not a role that Harmony knows", role)
	return nil
}

func harmonyAssistant(path string, m *dict, text string) (out []harmonyMessage) {
	calls := harmonyCalls(path, m)
	reasoning, _ := textField(path, m, "reasoning")
	if len(calls) > 0 && text != "" {
		out = append(out, harmonyMessage{author: "assistant", channel: "commentary", contents: []string{text}})
	}
	if reasoning != "" {
		out = append(out, harmonyMessage{author: "assistant", channel: "analysis", contents: []string{reasoning}})
	}
	for _, call := range calls {
		out = append(out, harmonyMessage{
			author: "assistant to=functions." + call.name, channel: "commentary", suffix: " json",
			contents: []string{call.arguments}, call: true,
		})
	}
	if len(calls) > 0 {
		return out
	}
	if contents := harmonyContents(path+".content", m.getStr("content")); len(contents) > 0 && contents[0] != "" {
		out = append(out, harmonyMessage{author: "assistant", channel: "final", contents: contents})
	}
	return out
}

// harmonyText joins the texts of a content; false if there is none.
func harmonyText(path string, content Value) (string, bool) {
	switch c := orNone(content).(type) {
	case noneType:
		return "", false
	case str:
		return string(c), true
	}
	texts := harmonyContents(path, content)
	return strings.Join(texts, ""), len(texts) > 0
}

// harmonyContents are the texts of a content, one for each part.
func harmonyContents(path string, content Value) []string {
	switch c := orNone(content).(type) {
	case noneType:
		return []string{""}
	case str:
		return []string{string(c)}
	case *list:
		out := make([]string, len(c.items))
		for i, item := range c.items {
			part := object(nth(path, i), item)
			onlyTextPart(nth(path, i), part)
			out[i], _ = textField(nth(path, i), part, "text")
		}
		return out
	}
	invalid(path, "must be a string, an array of parts or null")
	return nil
}
