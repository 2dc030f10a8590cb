package chattemplate

import (
	"slices"
	"strings"
)

// DeepSeekV4 renders chats for DeepSeek V4, whose prompt is made by code that comes
// with the model.
type DeepSeekV4 struct{}

const v4ToolsBefore = `## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set ` + "`string=\"true\"`" + `. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set ` + "`string=\"false\"`" + `.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

`

const v4ToolsAfter = `

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
`

// v4Effort is what begins the prompt of a model that thinks.
var v4Effort = map[string]string{
	"low": "",
	"high": `Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.

`,
	"max": `Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause rather than any surface symptom.
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no assumption remains unchecked and no error remains undiscovered.

`,
}

// v4Tasks are the small tasks that a message can ask for instead of an answer.
var v4Tasks = []string{"action", "query", "authority", "domain", "title", "read_url"}

type v4 struct {
	messages       []dsMessage
	thinking, drop bool
	effort         string
	last           int // user's or developer's message
	b              strings.Builder
}

// Prompt renders the chat. The generation prompt belongs to the last message,
// whatever add_generation_prompt says.
func (DeepSeekV4) Prompt(c Chat) (p Prompt, err error) {
	defer caught(&err)
	kwargs := context(c)
	e := v4{messages: dsConversation(c, true)}
	e.mode(kwargs)
	if tools := arrayField("", kwargs, "tools"); len(tools) > 0 {
		e.giveTools(tools)
	}
	e.drop = kwargs.getStr("drop_thinking") == nil || isTrue(kwargs, "drop_thinking")
	e.messages = sortAnswers(mergeAnswers(e.messages))
	for _, m := range e.messages {
		e.drop = e.drop && len(m.tools) == 0
	}
	if e.thinking && e.drop {
		e.messages = withoutThinking(e.messages, "user", "system", "tool", "latest_reminder", "direct_search_results")
	}
	e.last = lastUser(e.messages)
	e.b.WriteString(dsBOS)
	for i := range e.messages {
		e.message(i)
		e.turn(i)
	}
	return Prompt{{Markup, e.b.String()}}, nil
}

// mode settles whether the model thinks, which it does unless told otherwise, and
// how hard.
func (e *v4) mode(kwargs *dict) {
	e.thinking = isTrue(kwargs, "thinking") || isTrue(kwargs, "enable_thinking") ||
		kwargs.getStr("thinking") == nil && kwargs.getStr("enable_thinking") == nil
	effort, ok := text(kwargs.getStr("reasoning_effort"))
	switch {
	case !ok && !e.thinking:
		e.effort = "low"
	case !ok:
		e.effort = "high"
	case effort == "none":
		e.thinking, e.effort = false, "low"
	case effort == "max":
		e.effort = "max"
	case effort == "low" || effort == "minimal" || effort == "medium":
		e.effort = "low"
	default:
		e.effort = "high"
	}
}

// giveTools attaches the request's tools to the first system message.
func (e *v4) giveTools(tools []Value) {
	i := slices.IndexFunc(e.messages, func(m dsMessage) bool { return m.role == "system" })
	if i < 0 {
		e.messages = slices.Insert(e.messages, 0, dsMessage{path: "tools", role: "system", content: none})
		i = 0
	}
	e.messages[i].tools = tools
}

// v4Text is a content's text, its parts a paragraph each.
func v4Text(m *dsMessage) string {
	parts, ok := m.content.(*list)
	if !ok {
		s, _ := text(m.content)
		return s
	}
	texts := make([]string, len(parts.items))
	for i, item := range parts.items {
		s, ok := item.(*dict).getStr("text").(str)
		if !ok {
			invalid(nth(m.path+".content", i), "only text is supported here")
		}
		texts[i] = string(s)
	}
	return strings.Join(texts, "\n\n")
}

// v4Answer is a tool's answer.
func v4Answer(content Value) string {
	parts, ok := content.(*list)
	if !ok {
		s, _ := text(content)
		return s
	}
	texts := make([]string, len(parts.items))
	for i, item := range parts.items {
		part := item.(*dict)
		if s, ok := part.getStr("text").(str); ok {
			texts[i] = string(s)
		} else {
			texts[i] = "[Unsupported " + mustText(part.getStr("type")) + "]"
		}
	}
	return strings.Join(texts, "\n\n")
}

// mergeAnswers makes users' turns of tools' answers and of what users write next
// to them.
func mergeAnswers(messages []dsMessage) (out []dsMessage) {
	for _, m := range messages {
		var block dsBlock
		switch m.role {
		case "tool":
			block = dsBlock{text: "<tool_result>" + v4Answer(m.content) + "</tool_result>", tool: true, callID: m.callID}
			m = dsMessage{path: m.path, role: "user"}
		case "user":
			block = dsBlock{text: v4Text(&m)}
		default:
			out = append(out, m)
			continue
		}
		if n := len(out); n > 0 && out[n-1].role == "user" && (block.tool || out[n-1].task == "") {
			out[n-1].blocks = append(out[n-1].blocks, block)
			continue
		}
		m.blocks = []dsBlock{block}
		out = append(out, m)
	}
	return out
}

// sortAnswers puts the answers of each turn in the order of the calls.
func sortAnswers(messages []dsMessage) []dsMessage {
	order := map[Value]int{}
	for _, m := range messages {
		if m.role == "assistant" && len(m.calls) > 0 {
			clear(order)
			for i, call := range m.calls {
				if call.id != nil && call.id != str("") {
					order[call.id] = i
				}
			}
		}
		if len(order) == 0 {
			continue
		}
		var answers []dsBlock
		for _, b := range m.blocks {
			if b.tool {
				answers = append(answers, b)
			}
		}
		slices.SortStableFunc(answers, func(a, b dsBlock) int { return order[a.callID] - order[b.callID] })
		for i := range m.blocks {
			if m.blocks[i].tool {
				m.blocks[i], answers = answers[0], answers[1:]
			}
		}
	}
	return messages
}

func (e *v4) message(i int) {
	m := &e.messages[i]
	if i == 0 && e.thinking {
		e.b.WriteString(v4Effort[e.effort])
	}
	switch m.role {
	case "system", "developer":
		content := v4Text(m)
		if m.role == "developer" {
			if content == "" {
				invalid(m.path+".content", "must not be empty in a developer's message")
			}
			e.b.WriteString(dsUser)
		}
		e.b.WriteString(content)
		if len(m.tools) > 0 {
			e.b.WriteString("\n\n" + v4ToolsBefore + dsTools(m.path+".tools", m.tools) + v4ToolsAfter)
		}
	case "user":
		e.b.WriteString(dsUser)
		for i, block := range m.blocks {
			if i > 0 {
				e.b.WriteString("\n\n")
			}
			e.b.WriteString(block.text)
		}
	case "latest_reminder":
		e.b.WriteString("<｜latest_reminder｜>" + v4Text(m))
	case "assistant":
		asked := i > 0 && e.messages[i-1].task != "" // then this is a task's outcome
		if e.thinking && !asked && (!e.drop || i > e.last) {
			e.b.WriteString(m.reasoning + dsThinkEnd)
		}
		e.b.WriteString(v4Text(m) + dsCalls("tool_calls", m.calls) + dsEOS)
	default:
		invalid(m.path+".role", "%q is not a role that DeepSeek V4 knows", m.role)
	}
}

// turn hands over to the assistant, if it speaks next.
func (e *v4) turn(i int) {
	m := &e.messages[i]
	next := "assistant"
	if i+1 < len(e.messages) {
		next = e.messages[i+1].role
	}
	if next != "assistant" && next != "latest_reminder" {
		return
	}
	if m.task != "" {
		if !slices.Contains(v4Tasks, m.task) {
			invalid(m.path+".task", "%q is none of %s", m.task, strings.Join(v4Tasks, ", "))
		}
		if m.task == "action" {
			e.b.WriteString(dsAssistant)
			e.think(e.thinking)
		}
		e.b.WriteString("<｜" + m.task + "｜>")
		return
	}
	if m.role == "user" || m.role == "developer" || m.role == "system" && next == "assistant" {
		e.b.WriteString(dsAssistant)
		e.think(e.thinking && (!e.drop || i >= e.last))
	}
}

func (e *v4) think(begin bool) {
	if begin {
		e.b.WriteString(dsThink)
	} else {
		e.b.WriteString(dsThinkEnd)
	}
}
