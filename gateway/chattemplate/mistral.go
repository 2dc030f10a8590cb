package chattemplate

import "slices"

// Mistral renders chats by the rules of one version of mistral-common's instruct
// tokenizers. Each string of the chat is encoded by itself, and no user text can
// become a special token.
type Mistral struct {
	Version int  // 1, 2, 3, 7, 11, 13 or 15
	Thinks  bool // the vocabulary has [THINK] and [/THINK]
	// Efforts are the reasoning efforts that the model's settings allow, and Effort
	// is the one if the request names none. Version 15 alone has settings; a model
	// of it without efforts has none to encode.
	Efforts []string
	Effort  string
}

// MistralVersions are the known versions of instruct tokenizers.
var MistralVersions = []int{1, 2, 3, 7, 11, 13, 15}

// The messages of a chat, as mistral-common reads, checks, joins and encodes them:
// mistral_read.go, mistral_check.go, mistral_join.go and this file.
type (
	mistralMessage struct {
		path, role string
		chunks     []mistralChunk
		inText     bool // the content is one string, not chunks
		noContent  bool // an assistant's content may be null
		calls      []mistralCall
		prefix     bool // to be continued
		callID     string
		hasCallID  bool
		name       string
		hasName    bool
	}
	mistralChunk struct {
		text   string
		think  bool
		closed bool
	}
	mistralCall struct{ id, name, arguments string }
)

// text is a content that is all text.
func (m *mistralMessage) text() string {
	if len(m.chunks) == 0 {
		return ""
	}
	return m.chunks[0].text
}

// empty says whether the content is false to Python.
func (m *mistralMessage) empty() bool {
	return len(m.chunks) == 0 || m.inText && m.chunks[0].text == ""
}

// mistral is a chat being encoded.
type mistral struct {
	Mistral
	p        Prompt
	system   string // before version 7, where it is put in front of a user's text
	tools    string
	settings string
}

// Prompt renders the chat.
func (r Mistral) Prompt(c Chat) (p Prompt, err error) {
	defer caught(&err)
	if len(c.Kwargs) > 0 && field("chat_template_kwargs", c.Kwargs) != nil {
		invalid("chat_template_kwargs", "is not supported for Mistral tokenizers")
	}
	messages := r.read(c)
	r.check(messages)
	e := mistral{Mistral: r, tools: mistralTools(c), settings: r.encodeSettings(c)}
	if r.Version < 7 {
		e.system = systemPrompt(messages)
	}
	messages = r.join(messages)
	e.encode(messages)
	return e.p, nil
}

// encodeSettings is what version 15 tells the model before its first user's turn.
func (r Mistral) encodeSettings(c Chat) string {
	effort := c.ReasoningEffort
	if effort != "" && !slices.Contains([]string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}, effort) {
		invalid("reasoning_effort", "%q is not supported by Mistral models", effort)
	}
	if r.Version < 15 || len(r.Efforts) == 0 {
		return ""
	}
	if effort == "" {
		effort = r.Effort
	}
	if !slices.Contains(r.Efforts, effort) {
		invalid("reasoning_effort", "%q is not supported by this model", effort)
	}
	settings := &dict{}
	settings.setStr("reasoning_effort", str(effort))
	return dumps(settings)
}

func (e *mistral) encode(messages []mistralMessage) {
	isUser := func(m mistralMessage) bool { return m.role == "user" }
	first := slices.IndexFunc(messages, isUser)
	last := len(messages) - 1
	for last >= 0 && !isUser(messages[last]) {
		last--
	}
	if e.Version == 2 {
		oneAnswerEach(messages[max(last, 0):])
	}
	e.p.control("<s>")
	for i := range messages {
		m := &messages[i]
		switch m.role {
		case "user":
			e.user(m, i == first, i == last)
		case "tool":
			e.answer(m, i < last)
		case "assistant":
			e.assistant(m, i < last)
		case "system":
			e.p.control("[SYSTEM_PROMPT]")
			e.chunks(m)
			e.p.control("[/SYSTEM_PROMPT]")
		}
	}
}

func (e *mistral) user(m *mistralMessage, first, last bool) {
	text := m.text()
	if e.system != "" && (e.Version == 1 && first || e.Version > 1 && last) {
		text = e.system + "\n\n" + text
	}
	if e.Version == 1 {
		e.p.plain("[INST] " + text + " [/INST]")
		return
	}
	if e.Version < 13 && last || e.Version >= 13 && first {
		if e.tools != "" {
			e.p.control("[AVAILABLE_TOOLS]")
			e.p.plain(e.tools)
			e.p.control("[/AVAILABLE_TOOLS]")
		}
		if e.settings != "" {
			e.p.control("[MODEL_SETTINGS]")
			e.p.plain(e.settings)
			e.p.control("[/MODEL_SETTINGS]")
		}
	}
	e.p.control("[INST]")
	e.p.plain(text)
	e.p.control("[/INST]")
}

// chunks encodes a content chunk by chunk.
func (e *mistral) chunks(m *mistralMessage) {
	for _, c := range m.chunks {
		if !c.think {
			e.p.plain(c.text)
			continue
		}
		if e.Version < 13 || !e.Thinks {
			invalid(m.path+".content", "this model's tokenizer has no thinking")
		}
		e.p.control("[THINK]")
		e.p.plain(c.text)
		if c.closed {
			e.p.control("[/THINK]")
		}
	}
}

// answer encodes what a tool answered. Version 2 forgets what lies before the last
// user's message.
func (e *mistral) answer(m *mistralMessage, past bool) {
	if e.Version == 1 {
		invalid(m.path, "this model's tokenizer has no tools")
	}
	if e.Version == 2 && past {
		return
	}
	e.p.control("[TOOL_RESULTS]")
	switch {
	case e.Version < 7:
		e.p.plain(mistralAnswer(m, e.Version))
	case e.Version < 13:
		e.p.plain(m.callID)
		e.p.control("[TOOL_CONTENT]")
		e.p.plain(m.text())
	default:
		e.chunks(m)
	}
	e.p.control("[/TOOL_RESULTS]")
}

// mistralAnswer is an answer as JSON, its content too if it is that.
func mistralAnswer(m *mistralMessage, version int) string {
	content := mistralJSON(m.text())
	d := &dict{}
	if version == 2 {
		d.setStr("name", none)
		if m.hasName {
			d.setStr("name", str(m.name))
		}
		d.setStr("content", content)
		return dumps(&list{items: []Value{d}})
	}
	d.setStr("content", content)
	d.setStr("call_id", str(m.callID))
	return dumps(d)
}

// mistralJSON is what s says if it is JSON, else s.
func mistralJSON(s string) Value {
	if v, ok := parsed(s); ok {
		return v
	}
	return str(s)
}

func (e *mistral) assistant(m *mistralMessage, past bool) {
	if e.Version == 1 && len(m.calls) > 0 {
		invalid(m.path, "this model's tokenizer has no tools")
	}
	if m.empty() && len(m.calls) == 0 {
		invalid(m.path, "an assistant's message must have content or tool calls")
	}
	if e.Version < 7 && len(m.calls) > 0 && !m.empty() {
		invalid(m.path, "an assistant's message must have either content or tool calls, not both")
	}
	if e.Version == 2 && past && len(m.calls) > 0 {
		return
	}
	switch {
	case m.empty():
	case m.inText && e.Version > 1:
		e.p.plain(trimRightSpaces(m.text()))
	default:
		e.chunks(m)
	}
	e.calls(m.calls)
	if !m.prefix {
		e.p.control("</s>")
	}
}

func trimRightSpaces(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

func (e *mistral) calls(calls []mistralCall) {
	if len(calls) == 0 {
		return
	}
	if e.Version < 11 {
		all := &list{}
		for _, call := range calls {
			d := &dict{}
			d.setStr("name", str(call.name))
			d.setStr("arguments", mistralJSON(call.arguments))
			if e.Version > 2 && call.id != "" && call.id != nullCallID {
				d.setStr("id", str(call.id))
			}
			all.items = append(all.items, d)
		}
		e.p.control("[TOOL_CALLS]")
		e.p.plain(dumps(all))
		return
	}
	for _, call := range calls {
		e.p.control("[TOOL_CALLS]")
		e.p.plain(call.name)
		if e.Version < 13 && call.id != "" && call.id != nullCallID {
			e.p.control("[CALL_ID]")
			e.p.plain(call.id)
		}
		e.p.control("[ARGS]")
		e.p.plain(dumps(mistralJSON(call.arguments)))
	}
}
