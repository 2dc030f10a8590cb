package gateway

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

// field is a member of a request that the gateway reads. Everything else
// passes through unseen.
type field uint8

const (
	fieldModel field = iota
	fieldMessages
	fieldPrompt
	fieldStream
	fieldStreamOptions
	fieldMaxTokens
	fieldMaxCompletionTokens
	fieldN
	fieldCacheSalt
	fieldTools
	fieldDocuments
	fieldChatTemplate
	fieldTemplateKwargs
	fieldReasoningEffort
	fieldAddGenerationPrompt
	fieldContinueFinalMessage
	fieldAddSpecialTokens
	fieldTruncatePrompt
	fieldPromptEmbeds
	fieldTokens
	fieldReturnTokenStrs

	fieldKVTransferParams
	fieldPriority

	// What only a stream that loses its worker is asked for.
	fieldReturnTokenIDs
	fieldBestOf
	fieldUseBeamSearch
	fieldEcho
	fieldPromptLogprobs
	fieldLogprobs
	fieldTopLogprobs
	fieldResponseFormat
	fieldStructuredOutputs
	fieldGuidedJSON
	fieldGuidedRegex
	fieldGuidedChoice
	fieldGuidedGrammar
	fieldToolChoice
	fieldSeed
	fieldTemperature
	fieldPresencePenalty
	fieldFrequencyPenalty
	fieldMinTokens
	numFields
)

var fieldNames = [numFields]string{
	"model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
	"cache_salt", "tools", "documents", "chat_template", "chat_template_kwargs", "reasoning_effort",
	"add_generation_prompt", "continue_final_message", "add_special_tokens", "truncate_prompt_tokens",
	"prompt_embeds", "tokens", "return_token_strs",
	"kv_transfer_params", "priority",
	"return_token_ids", "best_of", "use_beam_search", "echo", "prompt_logprobs", "logprobs", "top_logprobs",
	"response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "tool_choice",
	"seed", "temperature", "presence_penalty", "frequency_penalty", "min_tokens",
}

var fieldByName = func() map[string]field {
	m := make(map[string]field, numFields)
	for f, name := range fieldNames {
		m[name] = field(f)
	}
	return m
}()

// fields are the raw values of the members that the gateway reads, as parts of
// the body; nil where absent. A null counts as absent, as it does for engines.
type fields [numFields]json.RawMessage

// fieldSet is a set of fields.
type fieldSet uint64

func (s fieldSet) has(f field) bool { return s&(1<<f) != 0 }

// findFields scans the body once. It refuses a field that is given twice: the
// engine would take the last and a reader that took the first would route, and
// later authorise, a request that is not the one that runs.
func findFields(body []byte) (fs fields, nulls fieldSet, err error) {
	if !utf8.Valid(body) {
		return fs, nulls, fail(CodeInvalidJSON, "", "the body is not UTF-8")
	}
	var seen [numFields]bool
	err = eachField(body, func(key, value []byte) error {
		f, ok := fieldByName[string(key)]
		if !ok {
			return nil
		}
		if seen[f] {
			return fail(CodeDuplicateKey, fieldNames[f], "the field %q is given twice", fieldNames[f])
		}
		seen[f] = true
		if string(value) == "null" {
			nulls |= 1 << f
			return nil
		}
		fs[f] = value
		return nil
	})
	var syntax *syntaxError
	if errors.As(err, &syntax) {
		return fs, nulls, fail(CodeInvalidJSON, "", "the body is not a JSON object: %s", syntax)
	}
	return fs, nulls, err
}

func (fs *fields) has(f field) bool { return fs[f] != nil }

func wrongType(name, want string) error {
	return fail(CodeInvalidType, name, "%q must be %s", name, want)
}

// text is a string field, "" if absent.
func (fs *fields) text(f field) (string, error) {
	raw := fs[f]
	if raw == nil {
		return "", nil
	}
	if raw[0] != '"' {
		return "", wrongType(fieldNames[f], "a string")
	}
	b, err := decodeString(raw)
	if err != nil {
		return "", fail(CodeInvalidJSON, fieldNames[f], "%q is not a valid string", fieldNames[f]).because(err)
	}
	return string(b), nil
}

// flag is a boolean field, or its default.
func (fs *fields) flag(f field, absent bool) (bool, error) {
	switch string(fs[f]) {
	case "":
		return absent, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, wrongType(fieldNames[f], "true or false")
}

// count is an integer field that is at least least, or its default.
func (fs *fields) count(f field, least, absent int) (int, error) {
	raw := fs[f]
	if raw == nil {
		return absent, nil
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0, wrongType(fieldNames[f], "an integer")
	}
	if n < least {
		return 0, fail(CodeInvalidValue, fieldNames[f], "%q must be at least %d, not %d", fieldNames[f], least, n)
	}
	return n, nil
}

// object and array check a field's JSON type only.
func (fs *fields) object(f field) error {
	if fs[f] != nil && fs[f][0] != '{' {
		return wrongType(fieldNames[f], "an object")
	}
	return nil
}

func (fs *fields) array(f field) error {
	if fs[f] != nil && fs[f][0] != '[' {
		return wrongType(fieldNames[f], "an array")
	}
	return nil
}
