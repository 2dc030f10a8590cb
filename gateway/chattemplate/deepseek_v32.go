package chattemplate

import "strings"

// DeepSeekV32 renders chats for DeepSeek V3.2, whose prompt is made by code that
// comes with the model.
type DeepSeekV32 struct{}

const v32ToolsBefore = `## Tools
You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name="$FUNCTION_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$FUNCTION_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>
String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).
If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:
<｜DSML｜function_calls>
...
</｜DSML｜function_calls>
<function_results>
...
</function_results>
<think>...thinking about results</think>
Here are the functions available in JSONSchema format:
<functions>
`

const v32ToolsAfter = "\n</functions>\n"

type v32 struct {
	messages []dsMessage
	thinking bool
	last     int // user's or developer's message
	asked    int // the last message so far that is no tool's, or -1
	b        strings.Builder
}

// Prompt renders the chat. The generation prompt belongs to the last message,
// whatever add_generation_prompt says.
func (DeepSeekV32) Prompt(c Chat) (p Prompt, err error) {
	defer caught(&err)
	kwargs := context(c)
	e := v32{messages: dsConversation(c, false)}
	e.thinking = isTrue(kwargs, "thinking") || isTrue(kwargs, "enable_thinking")
	if tools := arrayField("", kwargs, "tools"); len(tools) > 0 {
		system := dsMessage{path: "tools", role: "system", content: none, tools: tools}
		e.messages = append([]dsMessage{system}, e.messages...)
	}
	if e.thinking && e.messages[len(e.messages)-1].role == "user" {
		kept := withoutThinking(e.messages, "user", "system", "tool")
		if len(kept) < len(e.messages) {
			invalid("messages", "a developer's message must be the last one when the model thinks")
		}
		e.messages = kept
	}
	e.last, e.asked = lastUser(e.messages), -1
	e.b.WriteString(dsBOS)
	for i := range e.messages {
		e.message(i)
		if e.messages[i].role != "tool" {
			e.asked = i
		}
	}
	return Prompt{{Markup, e.b.String()}}, nil
}

func isTrue(kwargs *dict, name string) bool {
	v := kwargs.getStr(name)
	return v != nil && truth(v)
}

func (e *v32) message(i int) {
	m := &e.messages[i]
	content, _ := text(m.content)
	switch m.role {
	case "system":
		e.b.WriteString(content)
		if len(m.tools) > 0 {
			e.b.WriteString("\n\n" + v32Tools(m))
		}
	case "developer":
		if content == "" {
			invalid(m.path+".content", "must not be empty in a developer's message")
		}
		e.b.WriteString(dsUser)
		if len(m.tools) > 0 {
			e.b.WriteString("\n\n" + v32Tools(m))
		}
		e.b.WriteString("\n\n# The user's message is: " + content + dsAssistant)
		e.think(i == e.last)
	case "user":
		e.b.WriteString(dsUser + content + dsAssistant)
		e.think(i == e.last)
	case "tool":
		e.tool(i, content)
	case "assistant":
		e.assistant(i, content)
	default:
		invalid(m.path+".role", "%q is not a role that DeepSeek V3.2 knows", m.role)
	}
}

func v32Tools(m *dsMessage) string {
	return v32ToolsBefore + dsTools(m.path+".tools", m.tools) + v32ToolsAfter
}

// think begins the model's thinking, or says that there is none.
func (e *v32) think(here bool) {
	if here && e.thinking {
		e.b.WriteString(dsThink)
	} else {
		e.b.WriteString(dsThinkEnd)
	}
}

// tool writes the answer of a tool; the calls stand in the assistant's message
// before the run of answers, in their order.
func (e *v32) tool(i int, content string) {
	asked := e.asked
	if i > 0 && (asked < 0 || e.messages[asked].role != "assistant") {
		invalid(e.messages[i].path, "a tool's answer must follow an assistant's message")
	}
	// An answer that comes first finds its calls in the last message: the model's
	// code counts from the end there.
	calls := len(e.messages[(asked+len(e.messages))%len(e.messages)].calls)
	order := i - asked
	if order > calls {
		invalid(e.messages[i].path, "a tool's answer without a call")
	}
	if order == 1 {
		e.b.WriteString("\n\n<function_results>")
	}
	e.b.WriteString("\n<result>" + content + "</result>")
	if order == calls {
		e.b.WriteString("\n</function_results>\n\n")
		e.think(i >= e.last)
	}
}

func (e *v32) assistant(i int, content string) {
	m := &e.messages[i]
	if e.thinking && i > e.last {
		if m.reasoning == "" && len(m.calls) == 0 {
			invalid(m.path, "an assistant's message after the last user's must have reasoning or tool calls when the model thinks")
		}
		e.b.WriteString(m.reasoning + dsThinkEnd)
	}
	e.b.WriteString(content + dsCalls("function_calls", m.calls) + dsEOS)
}
