package gateway

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// endpoint is what was asked of the gateway.
type endpoint string

const (
	endpointChat       endpoint = "chat"
	endpointCompletion endpoint = "completion"
)

// path is the endpoint's URL, at the gateway as at the engines.
func (e endpoint) path() string {
	if e == endpointChat {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// inference is a checked request. Its raw parts point into body.
type inference struct {
	endpoint endpoint
	body     []byte
	fields   fields
	nulls    fieldSet // given as null, which counts as absent

	model     string
	salt      string
	salted    bool // salt is the tenant's, not the client's
	stream    bool
	maxTokens int // 0: the engine's default

	// A chat's template arguments.
	addGenerationPrompt, continueFinalMessage bool
	// addSpecial asks for the tokenizer's own BOS and EOS.
	addSpecial bool
	// opaque says why the gateway can't know the prompt's exact tokens (images,
	// a template of the client's own), "" if it can.
	opaque string
	// prompts of a completion: texts, or tokens where the client tokenized.
	prompts []prompt
}

// prompt is one prompt of a completion, either text or tokens.
type prompt struct {
	text   string
	tokens []uint32
}

// parseInference checks what the gateway itself needs, naming the field at
// fault. Everything about sampling is the engine's to judge.
func parseInference(e endpoint, body []byte) (*inference, error) {
	fs, nulls, err := findFields(body)
	if err != nil {
		return nil, err
	}
	q := &inference{endpoint: e, body: body, fields: fs, nulls: nulls}
	for _, step := range []func() error{q.parseCommon, q.parseStream, q.parseTemplate, q.parsePrompt} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func (q *inference) parseCommon() (err error) {
	if q.model, err = q.fields.text(fieldModel); err != nil {
		return err
	}
	if q.model == "" {
		return fail(CodeMissingParameter, "model", `"model" is required; GET /v1/models lists the choices`)
	}
	if q.salt, err = q.fields.text(fieldCacheSalt); err != nil {
		return err
	}
	if _, err = q.fields.count(fieldN, 1, 1); err != nil {
		return err
	}
	if q.maxTokens, err = q.fields.count(fieldMaxTokens, 0, 0); err != nil {
		return err
	}
	n, err := q.fields.count(fieldMaxCompletionTokens, 0, q.maxTokens)
	q.maxTokens = n
	return err
}

func (q *inference) parseStream() (err error) {
	if q.stream, err = q.fields.flag(fieldStream, false); err != nil {
		return err
	}
	if q.fields.has(fieldStreamOptions) && !q.stream {
		return fail(CodeInvalidValue, "stream_options", `"stream_options" is only allowed when "stream" is true`)
	}
	return q.fields.object(fieldStreamOptions)
}

func (q *inference) parseTemplate() (err error) {
	if q.addSpecial, err = q.fields.flag(fieldAddSpecialTokens, q.endpoint == endpointCompletion); err != nil {
		return err
	}
	if q.addGenerationPrompt, err = q.fields.flag(fieldAddGenerationPrompt, true); err != nil {
		return err
	}
	if q.continueFinalMessage, err = q.fields.flag(fieldContinueFinalMessage, false); err != nil {
		return err
	}
	if q.continueFinalMessage && q.addGenerationPrompt && q.fields.has(fieldAddGenerationPrompt) {
		return fail(CodeInvalidValue, "continue_final_message", `"continue_final_message" and "add_generation_prompt" cannot both be true`)
	}
	if q.continueFinalMessage {
		q.addGenerationPrompt = false
	}
	for _, f := range [...]field{fieldTools, fieldDocuments} {
		if err := q.fields.array(f); err != nil {
			return err
		}
	}
	return q.fields.object(fieldTemplateKwargs)
}

func (q *inference) parsePrompt() error {
	if q.fields.has(fieldPromptEmbeds) {
		q.opaque = "prompt_embeds"
	}
	if q.endpoint == endpointChat {
		if q.fields.has(fieldChatTemplate) {
			q.opaque = reasonTemplate
		}
		return q.parseMessages()
	}
	if !q.fields.has(fieldPrompt) {
		if q.opaque != "" {
			return nil
		}
		return fail(CodeMissingParameter, "prompt", `"prompt" is required`)
	}
	return q.parsePrompts(q.fields[fieldPrompt])
}

// parseMessages checks the outer shape; the chat template judges the rest.
func (q *inference) parseMessages() error {
	raw := q.fields[fieldMessages]
	if raw == nil {
		return fail(CodeMissingParameter, "messages", `"messages" is required`)
	}
	if raw[0] != '[' {
		return wrongType("messages", "an array of objects")
	}
	n := 0
	err := eachElement(raw, func(message []byte) error {
		err := q.parseMessage(n, message)
		n++
		return err
	})
	if err == nil && n == 0 {
		return fail(CodeInvalidValue, "messages", `"messages" must have at least one message`)
	}
	return err
}

func (q *inference) parseMessage(i int, message []byte) error {
	at := fmt.Sprintf("messages[%d]", i)
	if message[0] != '{' {
		return wrongType(at, "an object")
	}
	role := false
	err := eachField(message, func(key, value []byte) error {
		switch string(key) {
		case "role":
			if value[0] != '"' || len(value) == 2 {
				return wrongType(at+".role", "a non-empty string")
			}
			role = true
		case "content":
			return q.parseContent(at+".content", value)
		}
		return nil
	})
	if err == nil && !role {
		return fail(CodeMissingParameter, at+".role", `%s has no "role"`, at)
	}
	return err
}

// parseContent accepts what engines do: a string, null, or an array of parts.
// Parts that are not text become tokens only the engine knows.
func (q *inference) parseContent(at string, content []byte) error {
	switch content[0] {
	case '"', 'n':
		return nil
	case '[':
	default:
		return wrongType(at, "a string or an array of parts")
	}
	return eachElement(content, func(part []byte) error {
		if part[0] == '"' {
			return nil
		}
		if part[0] != '{' {
			return wrongType(at, "a string or an array of parts")
		}
		return eachField(part, func(key, value []byte) error {
			if string(key) == "type" && !textPart(value) {
				q.opaque = reasonMultimodal
			}
			return nil
		})
	})
}

func textPart(typ []byte) bool {
	switch string(typ) {
	case `"text"`, `"input_text"`, `"output_text"`, `"refusal"`, `"thinking"`:
		return true
	}
	return false
}

// parsePrompts accepts OpenAI's four forms: a string, tokens, or an array of
// either.
func (q *inference) parsePrompts(raw json.RawMessage) error {
	if raw[0] == '"' {
		return q.addText(raw)
	}
	if raw[0] != '[' {
		return wrongType("prompt", "a string, an array of strings, or token ids")
	}
	var flat []uint32
	err := eachElement(raw, func(e []byte) (err error) {
		switch {
		case e[0] == '"' && flat == nil:
			return q.addText(e)
		case e[0] == '[' && flat == nil:
			var tokens []uint32
			err := eachElement(e, func(id []byte) (err error) {
				tokens, err = appendToken(tokens, id)
				return err
			})
			q.prompts = append(q.prompts, prompt{tokens: tokens})
			return err
		case e[0] != '"' && e[0] != '[' && q.prompts == nil:
			flat, err = appendToken(flat, e)
			return err
		}
		return wrongType("prompt", "a string, an array of strings, or token ids")
	})
	if err != nil {
		return err
	}
	if flat != nil {
		q.prompts = append(q.prompts, prompt{tokens: flat})
	}
	if len(q.prompts) == 0 {
		return fail(CodeInvalidValue, "prompt", `"prompt" must not be empty`)
	}
	return nil
}

func (q *inference) addText(quoted []byte) error {
	text, err := decodeString(quoted)
	if err != nil {
		return fail(CodeInvalidJSON, "prompt", `"prompt" is not a valid string`).because(err)
	}
	q.prompts = append(q.prompts, prompt{text: string(text)})
	return nil
}

func appendToken(tokens []uint32, id []byte) ([]uint32, error) {
	n, err := strconv.ParseUint(string(id), 10, 32)
	if err != nil {
		return nil, wrongType("prompt", "a string, an array of strings, or token ids")
	}
	return append(tokens, uint32(n)), nil
}
