package chattemplate

import (
	"slices"
	"strings"
)

const paragraph = "\n\n"

// joinChunks joins texts that stand next to each other: those of one message by
// within, those of different messages by a paragraph. What is all text is one string.
func joinChunks(messages []mistralMessage, within string) (chunks []mistralChunk, inText bool) {
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			chunks = append(chunks, mistralChunk{text: b.String()})
			b.Reset()
		}
	}
	all := true
	for _, m := range messages {
		sep := paragraph
		for _, c := range m.chunks {
			switch {
			case c.think:
				flush()
				chunks, all = append(chunks, c), false
			case c.text != "":
				if b.Len() > 0 {
					b.WriteString(sep)
				}
				b.WriteString(c.text)
				sep = within
			}
		}
	}
	flush()
	if all && len(chunks) == 0 {
		chunks = []mistralChunk{{}}
	}
	return chunks, all
}

// systemPrompt is all system messages as one text, for versions that have no place
// for them.
func systemPrompt(messages []mistralMessage) string {
	var texts []string
	for _, m := range messages {
		if m.role == "system" && !m.empty() {
			chunks, _ := joinChunks([]mistralMessage{m}, paragraph)
			texts = append(texts, chunks[0].text)
		}
	}
	return strings.Join(texts, paragraph)
}

// join makes one message of neighbours of the same role, and brings tools' answers
// into the order of their calls.
func (r Mistral) join(messages []mistralMessage) (out []mistralMessage) {
	var latest []string // calls since the last answers
	for start, end := 0, 0; start < len(messages); start = end {
		role := messages[start].role
		for end < len(messages) && messages[end].role == role {
			end++
		}
		group := messages[start:end]
		switch role {
		case "user", "assistant":
			m := r.joined(group)
			for _, call := range m.calls {
				latest = append(latest, call.id)
			}
			out = append(out, m)
		case "tool":
			out = append(out, r.answers(group, latest)...)
			latest = latest[:0]
		case "system":
			for i := range group {
				if r.Version >= 7 {
					m := group[i]
					m.chunks, m.inText = joinChunks(group[i:i+1], r.within())
					out = append(out, m)
				}
			}
		}
	}
	if len(out) == 0 || r.Version < 7 && out[0].role != "user" {
		empty := mistralMessage{path: "messages", role: "user", chunks: []mistralChunk{{}}, inText: true}
		out = append([]mistralMessage{empty}, out...)
	}
	return out
}

// within is what stands between the parts of one content.
func (r Mistral) within() string {
	if r.Version >= 15 {
		return ""
	}
	return paragraph
}

func (r Mistral) joined(group []mistralMessage) mistralMessage {
	m := mistralMessage{path: group[0].path, role: group[0].role}
	m.chunks, m.inText = joinChunks(group, r.within())
	for _, g := range group {
		m.prefix = m.prefix || g.prefix
		for _, call := range g.calls {
			call.arguments = normalJSON(call.arguments)
			m.calls = append(m.calls, call)
		}
	}
	return m
}

// normalJSON writes JSON the way Python does; what is none stays.
func normalJSON(s string) string {
	if s == "" {
		return "{}"
	}
	if v, ok := parsed(s); ok {
		return dumps(v)
	}
	return s
}

func (r Mistral) answers(group []mistralMessage, calls []string) []mistralMessage {
	out := slices.Clone(group)
	given := map[string]int{}
	for i := range out {
		m := &out[i]
		m.chunks, m.inText = joinChunks(out[i:i+1], r.within())
		if r.Version < 7 {
			m.chunks = []mistralChunk{{text: normalJSON(m.text())}}
		}
		given[m.callID] = i
	}
	if r.Version < 11 {
		return out
	}
	order := map[string]int{}
	for i, id := range calls {
		order[id] = i
	}
	rank := func(m mistralMessage) int {
		id := m.callID
		if id == "" {
			id = nullCallID
		}
		if i, ok := order[id]; ok {
			return i
		}
		return len(calls)
	}
	slices.SortStableFunc(out, func(a, b mistralMessage) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return given[a.callID] - given[b.callID]
	})
	return out
}
