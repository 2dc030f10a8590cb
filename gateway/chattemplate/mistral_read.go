package chattemplate

import "unicode/utf8"

// nullCallID is the id of a call that has none.
const nullCallID = "null"

// read takes the request's messages as mistral-common does from OpenAI's form, after
// vLLM's shortening of the ids of calls.
func (r Mistral) read(c Chat) []mistralMessage {
	messages := messageList(c.Messages)
	if len(messages) == 0 {
		invalid("messages", "must not be empty")
	}
	out := make([]mistralMessage, len(messages))
	for i, d := range messages {
		out[i] = readMistral(nth("messages", i), d)
	}
	last := &out[len(out)-1]
	switch assistant := last.role == "assistant"; {
	case c.ContinueFinalMessage && c.AddGenerationPrompt:
		invalid("continue_final_message", "cannot be used together with add_generation_prompt")
	case c.ContinueFinalMessage && !assistant:
		invalid("continue_final_message", "the last message is not from the assistant")
	case c.AddGenerationPrompt && assistant:
		invalid("add_generation_prompt", "the last message is from the assistant; use continue_final_message")
	}
	last.prefix = c.ContinueFinalMessage
	return out
}

func readMistral(path string, d *dict) mistralMessage {
	m := mistralMessage{path: path}
	m.role, _ = textField(path, d, "role")
	m.content(d.getStr("content"))
	switch m.role {
	case "developer":
		m.role = "system"
	case "system", "user":
	case "assistant":
		m.readCalls(d)
		m.readReasoning(d)
		return m
	case "tool":
		m.callID, m.hasCallID = textField(path, d, "tool_call_id")
		if d.getStr("tool_call_id") == nil {
			invalid(path+".tool_call_id", "is missing")
		}
		m.callID = lastNine(m.callID)
		m.name, m.hasName = textField(path, d, "name")
	default:
		invalid(path+".role", "%q is not a role that Mistral models know", m.role)
	}
	if m.noContent {
		invalid(path+".content", "must be a string or an array of parts")
	}
	return m
}

func (m *mistralMessage) content(v Value) {
	path := m.path + ".content"
	switch v := orNone(v).(type) {
	case noneType:
		m.noContent = true
	case str:
		m.chunks, m.inText = []mistralChunk{{text: string(v)}}, true
	case *list:
		for i, item := range v.items {
			part := object(nth(path, i), item)
			if kind := part.getStr("type"); kind != nil && truth(kind) { // others are skipped
				m.chunks = append(m.chunks, readChunk(nth(path, i), part))
			}
		}
	default:
		invalid(path, "must be a string, an array of parts or null")
	}
}

func readChunk(path string, part *dict) mistralChunk {
	if part.getStr("type") != str("thinking") {
		onlyTextPart(path, part)
		text, ok := part.getStr("text").(str)
		if !ok {
			invalid(path+".text", "must be a string")
		}
		return mistralChunk{text: string(text)}
	}
	text, ok := part.getStr("thinking").(str)
	if !ok {
		invalid(path+".thinking", "must be a string")
	}
	chunk := mistralChunk{text: string(text), think: true, closed: true}
	if closed := part.getStr("closed"); closed != nil {
		b, ok := closed.(boolean)
		if !ok {
			invalid(path+".closed", "must be a boolean")
		}
		chunk.closed = bool(b)
	}
	return chunk
}

// readReasoning puts reasoning that came as a field of its own in front.
func (m *mistralMessage) readReasoning(d *dict) {
	reasoning, ok := textField(m.path, d, "reasoning")
	if !ok {
		return
	}
	for _, c := range m.chunks {
		if c.think {
			invalid(m.path+".reasoning", "cannot be used together with thinking in content")
		}
	}
	m.chunks = append([]mistralChunk{{text: reasoning, think: true, closed: true}}, m.chunks...)
	m.inText, m.noContent = false, false
}

func (m *mistralMessage) readCalls(d *dict) {
	for i, item := range arrayField(m.path, d, "tool_calls") {
		path := nth(m.path+".tool_calls", i)
		call := object(path, item)
		fn := object(path+".function", call.getStr("function"))
		id, ok := call.getStr("id").(str)
		if !ok {
			invalid(path+".id", "must be a string")
		}
		name, ok := fn.getStr("name").(str)
		if !ok {
			invalid(path+".function.name", "must be a string")
		}
		if kind := call.getStr("type"); kind != nil && kind != str("function") {
			invalid(path+".type", "must be function")
		}
		c := mistralCall{id: lastNine(string(id)), name: string(name)}
		switch args := fn.getStr("arguments").(type) {
		case str:
			c.arguments = string(args)
		case *dict:
			w := &jsonWriter{r: &renderer{budget: fullBudget}, itemSep: ", ", keySep: ": ", ascii: true}
			w.value(args, 0)
			c.arguments = w.b.String()
		case noneType:
			c.arguments = "{}"
		default:
			invalid(path+".function.arguments", "must be JSON in a string, or an object")
		}
		m.calls = append(m.calls, c)
	}
}

// lastNine is what vLLM leaves of an id: Mistral's have nine characters.
func lastNine(id string) string {
	for n := utf8.RuneCountInString(id); n > 9; n-- {
		_, size := utf8.DecodeRuneInString(id)
		id = id[size:]
	}
	return id
}

// mistralTools is the request's tools as JSON; "" if there are none.
func mistralTools(c Chat) string {
	tools, ok := field("tools", c.Tools).(*list)
	if !ok || len(tools.items) == 0 {
		return ""
	}
	out := &list{}
	for i, item := range tools.items {
		path := nth("tools", i)
		fn := object(path+".function", object(path, item).getStr("function"))
		name, _ := textField(path+".function", fn, "name")
		if !isFunctionName(name) {
			invalid(path+".function.name", badFunctionName, name)
		}
		description, _ := textField(path+".function", fn, "description")
		def := &dict{}
		def.setStr("name", str(name))
		def.setStr("description", str(description))
		def.setStr("parameters", &dict{})
		if parameters := orNone(fn.getStr("parameters")); parameters != none {
			def.setStr("parameters", object(path+".function.parameters", parameters))
		}
		tool := &dict{}
		tool.setStr("type", str("function"))
		tool.setStr("function", def)
		out.items = append(out.items, tool)
	}
	return dumps(out)
}

const badFunctionName = "%q must be 1 to 64 of a-z, A-Z, 0-9, underscore and dash"

// isFunctionName is Python's re.match(r"^[a-zA-Z0-9_-]{1,64}$"), whose $ lets a last
// newline pass.
func isFunctionName(s string) bool {
	return isShortWord(s, 1, 64, "_-")
}

// isShortWord says whether s is of least to most ASCII letters, digits and extra bytes.
func isShortWord(s string, least, most int, extra string) bool {
	if len(s) > 0 && s[len(s)-1] == '\n' {
		s = s[:len(s)-1]
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && (extra == "" || s[i] != extra[0] && s[i] != extra[1]) {
			return false
		}
	}
	return len(s) >= least && len(s) <= most
}
