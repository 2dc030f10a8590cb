package chattemplate

// check refuses what mistral-common's validator of the version refuses. (It also
// checks that the parameters of tools are JSON schemas, which the engine will.)
func (r Mistral) check(messages []mistralMessage) {
	if len(messages) == 1 {
		if role := messages[0].role; role != "user" && role != "system" {
			invalid("messages", "a chat must start with a user's or a system message")
		}
	} else if last := messages[len(messages)-1]; last.role == "assistant" && !last.prefix {
		invalid("messages", "the last message must be a user's or a tool's, or an assistant's to be continued")
	}
	checkOrder(messages)
	if r.Version < 11 {
		countAnswers(messages)
	} else {
		matchAnswers(messages)
	}
	for i := range messages {
		r.checkMessage(&messages[i])
	}
}

// mayFollow lists the roles that may come after each.
var mayFollow = map[string]map[string]bool{
	"system":    {"user": true, "assistant": true, "system": true},
	"user":      {"assistant": true, "system": true, "user": true},
	"assistant": {"assistant": true, "user": true, "tool": true},
	"tool":      {"assistant": true, "tool": true, "user": true},
}

func checkOrder(messages []mistralMessage) {
	for i := 1; i < len(messages); i++ {
		if before, role := messages[i-1].role, messages[i].role; !mayFollow[before][role] {
			invalid(messages[i].path+".role", "role %s after role %s", role, before)
		}
	}
}

const uneven = "not the same number of function calls and responses"

// countAnswers checks that there are as many answers as calls before an assistant
// speaks again. (Like the original, it does not look at the first message.)
func countAnswers(messages []mistralMessage) {
	open := 0
	for i := 1; i < len(messages); i++ {
		switch m := &messages[i]; m.role {
		case "tool":
			open--
		case "assistant":
			if open != 0 {
				invalid(m.path, uneven)
			}
			open = len(m.calls)
		}
	}
}

// matchAnswers checks that answers name calls, each once.
func matchAnswers(messages []mistralMessage) {
	called, answered := map[string]bool{}, map[string]bool{}
	for i := 1; i < len(messages); i++ {
		m := &messages[i]
		switch m.role {
		case "tool":
			if answered[m.callID] || !called[m.callID] || !m.hasCallID {
				invalid(m.path+".tool_call_id", "%q names no call, or one that is answered", m.callID)
			}
			answered[m.callID] = true
		case "assistant":
			if len(called) != len(answered) {
				invalid(m.path, uneven)
			}
			clear(called)
			clear(answered)
			for _, call := range m.calls {
				if called[call.id] {
					invalid(m.path+".tool_calls", "the id %q is there twice", call.id)
				}
				called[call.id] = true
			}
		}
	}
}

func (r Mistral) checkMessage(m *mistralMessage) {
	for _, c := range m.chunks {
		if c.think && !r.mayThink(m.role) {
			invalid(m.path+".content", "no thinking in a message of role %s", m.role)
		}
	}
	switch m.role {
	case "assistant":
		if r.Version < 7 && m.empty() == (len(m.calls) == 0) {
			invalid(m.path, "an assistant's message must have either content or tool calls")
		}
		for _, call := range m.calls {
			r.checkCallID(m, call.id, true)
			if !isFunctionName(call.name) {
				invalid(m.path+".tool_calls", badFunctionName, call.name)
			}
		}
	case "tool":
		if m.hasName && !isFunctionName(m.name) {
			invalid(m.path+".name", badFunctionName, m.name)
		}
		r.checkCallID(m, m.callID, m.hasCallID)
	}
}

func (r Mistral) mayThink(role string) bool {
	return role == "assistant" && r.Version >= 11 || role == "system" && r.Version >= 7 && r.Version < 15
}

func (r Mistral) checkCallID(m *mistralMessage, id string, there bool) {
	switch {
	case r.Version < 3:
	case r.Version < 13:
		if !there || !isShortWord(id, 9, 9, "") || id == nullCallID {
			invalid(m.path, "the id of a call must be 9 of a-z, A-Z and 0-9, and is %q", id)
		}
	case id == "" || id == nullCallID:
		invalid(m.path, "the id of a call must not be empty")
	}
}

// oneAnswerEach refuses two answers to one turn, which version 2 cannot encode.
func oneAnswerEach(messages []mistralMessage) {
	answers, called := 0, false
	for i := range messages {
		switch m := &messages[i]; m.role {
		case "assistant":
			answers, called = 0, len(m.calls) > 0
		case "tool":
			if answers++; called && answers > 1 {
				invalid(m.path, "this model's tokenizer has no turns with several tools' answers")
			}
		default:
			answers, called = 0, false
		}
	}
}
