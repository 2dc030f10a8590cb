package chattemplate

import (
	"encoding/json"
	"errors"
	"time"
)

// Chat is one chat request, as far as its prompt depends on it.
// The raw fields hold the request's own JSON, so that key order survives.
type Chat struct {
	Messages             json.RawMessage
	Tools                json.RawMessage // nil if none
	Documents            json.RawMessage // nil if none
	AddGenerationPrompt  bool
	ContinueFinalMessage bool
	Kwargs               json.RawMessage   // chat_template_kwargs, nil if none
	SpecialTokens        map[string]string // bos_token, eos_token, ...
	Now                  time.Time
}

// ErrUnsupportedContent marks a message part that only the engine can render,
// such as an image. It is wrapped in an *InvalidError that names the part.
var ErrUnsupportedContent = errors.New("content of this type is rendered by the engine only")

// InvalidError is a chat that cannot be rendered because of what the request holds.
type InvalidError struct {
	Param string // the field, such as messages[2].content
	Err   error
}

func (e *InvalidError) Error() string { return e.Param + ": " + e.Err.Error() }

func (e *InvalidError) Unwrap() error { return e.Err }

// RenderChat prepares the chat as vLLM prepares it and renders it.
// A fault of the request is an *InvalidError, a fault of the template an *Error.
func (t *Template) RenderChat(c Chat) (string, error) {
	return "", &Error{Kind: "NotImplementedError", Message: "rendering is not available yet"}
}
