package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// Code names a kind of error. Codes are stable: clients and alerts rely on them.
type Code string

// The codes. Their meaning, status and OpenAI type are in the table below.
const (
	CodeInvalidJSON      Code = "invalid_json"
	CodeMissingParameter Code = "missing_required_parameter"
	CodeInvalidType      Code = "invalid_type"
	CodeInvalidValue     Code = "invalid_value"
	CodeDuplicateKey     Code = "duplicate_parameter"
	CodeInvalidMessages  Code = "invalid_messages"
	CodeContextLength    Code = "context_length_exceeded"
	CodeUnreadableBody   Code = "unreadable_body"
	CodeBodyTooLarge     Code = "body_too_large"
	CodeContentEncoding  Code = "unsupported_content_encoding"
	CodeInvalidKey       Code = "invalid_api_key"
	CodeForbidden        Code = "forbidden"
	CodeModelNotFound    Code = "model_not_found"
	CodeUnknownURL       Code = "unknown_url"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeDecisionNotFound Code = "decision_not_found"
	CodeNotImplemented   Code = "not_implemented"
	CodeOverLimit        Code = "rate_limit_exceeded"
	CodeOverloaded       Code = "overloaded"
	CodeDraining         Code = "draining"
	CodeNoWorker         Code = "no_worker"
	CodeUpstreamFailed   Code = "upstream_failed"
	CodeUpstreamRefused  Code = "upstream_refused"
	CodeDeadlineExceeded Code = "deadline_exceeded"
	CodeClientClosed     Code = "client_closed_request"
	CodeClientStalled    Code = "client_stalled"
	CodeInternal         Code = "internal_error"
	statusClientClosed        = 499
	typeInvalidRequest        = "invalid_request_error"
	typeRateLimit             = "rate_limit_error"
	typeServer                = "server_error"
	defaultRetryAfter         = time.Second
)

// ErrorKind documents a code.
type ErrorKind struct {
	Code   Code
	Status int
	// Type is OpenAI's coarse class of the error.
	Type string
	// Means says what happened and what the client can do.
	Means string
}

// ErrorKinds is the table of every error that the gateway makes itself. An
// engine's own 4xx answers pass through as they are.
var ErrorKinds = []ErrorKind{
	{CodeInvalidJSON, 400, typeInvalidRequest, "The body is not one JSON object in UTF-8."},
	{CodeMissingParameter, 400, typeInvalidRequest, "A field that the request needs is absent; param names it."},
	{CodeInvalidType, 400, typeInvalidRequest, "A field has the wrong JSON type; param names it."},
	{CodeInvalidValue, 400, typeInvalidRequest, "A field's value is out of its range or contradicts another; param names it."},
	{CodeDuplicateKey, 400, typeInvalidRequest, "A field that the gateway reads is given twice; param names it."},
	{CodeInvalidMessages, 400, typeInvalidRequest, "The model's chat template refused the messages or tools; param names the place."},
	{CodeContextLength, 400, typeInvalidRequest, "The prompt is longer than the model's context. Shorten it."},
	{CodeUnreadableBody, 400, typeInvalidRequest, "The body ended early or came too slowly."},
	{CodeBodyTooLarge, 413, typeInvalidRequest, "The body is larger than the gateway takes (limits.body)."},
	{CodeContentEncoding, 415, typeInvalidRequest, "The body is compressed. Send it plain."},
	{CodeInvalidKey, 401, typeInvalidRequest, "The Authorization header has no API key that is known here: Bearer KEY."},
	{CodeForbidden, 403, typeInvalidRequest, "The key is known, and is not for the admin API."},
	{CodeModelNotFound, 404, typeInvalidRequest, "No worker serves a model of this name; the message lists those served."},
	{CodeUnknownURL, 404, typeInvalidRequest, "There is no such endpoint."},
	{CodeMethodNotAllowed, 405, typeInvalidRequest, "The endpoint exists, but not for this method; Allow lists those it has."},
	{CodeDecisionNotFound, 404, typeInvalidRequest, "The decision is not, or no longer, among those kept."},
	{CodeNotImplemented, 501, typeServer, "The endpoint is planned but not served by this version."},
	{CodeOverLimit, 429, typeRateLimit, "The tenant has used its requests or tokens a minute, or has as many requests in flight as it may. Retry after the time in Retry-After."},
	{CodeOverloaded, 429, typeRateLimit, "The model's workers are saturated and the request would wait too long: longer than its X-Kvasir-Deadline-Ms, limits.ttft or limits.first_byte allow, or the queue is full (limits.queue); or as many requests are in flight as the gateway takes (limits.in_flight). Retry-After is when to try again, from how fast the queue drains."},
	{CodeDraining, 503, typeServer, "The gateway is shutting down. Retry at another one."},
	{CodeNoWorker, 503, typeServer, "No worker of the model is ready. Retry after the time in Retry-After."},
	{CodeUpstreamFailed, 502, typeServer, "Every worker that was tried failed before its answer began, or a worker failed within it."},
	{CodeUpstreamRefused, 502, typeInvalidRequest, "The engine refused the request in a form of its own; the status is the engine's."},
	{CodeDeadlineExceeded, 504, typeServer, "No answer within the gateway's time limits, or within the request's X-Kvasir-Deadline-Ms."},
	{CodeClientClosed, statusClientClosed, typeInvalidRequest, "The client went away; only ever seen in logs and metrics."},
	{CodeClientStalled, statusClientClosed, typeInvalidRequest, "The client took nothing of its answer for limits.client_stall, so it was given up; only ever seen in logs and metrics."},
	{CodeInternal, 500, typeServer, "A fault of the gateway itself; the log has it under the request's id."},
}

var errorKinds = func() map[Code]ErrorKind {
	m := make(map[Code]ErrorKind, len(ErrorKinds))
	for _, k := range ErrorKinds {
		m[k.Code] = k
	}
	return m
}()

// Error is every failure that a client may see. Its message goes to the client
// as it is; the cause goes only to the log.
type Error struct {
	Code    Code
	Message string
	// Param names the field at fault, "" if none.
	Param string
	// RetryAfter asks the client to wait; 0 for errors that waiting won't cure.
	RetryAfter time.Duration
	// Upstream is the engine's status where the engine's decides, else 0.
	Upstream int

	cause error
	// sent is set when the client has its answer already.
	sent bool
	// quotes is set when the message has words of the client, its template or an
	// engine, which may quote the prompt: it is not logged.
	quotes bool
}

func fail(code Code, param, format string, args ...any) *Error {
	return &Error{Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) because(cause error) *Error {
	e.cause = cause
	return e
}

func (e *Error) quoting() *Error {
	e.quotes = true
	return e
}

func (e *Error) after(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// forLog is the error without what must not be logged.
func (e *Error) forLog() string {
	switch {
	case !e.quotes:
		return e.Error()
	case e.cause != nil:
		return fmt.Sprintf("%s: %v", e.Code, e.cause)
	}
	return string(e.Code)
}

func (e *Error) Unwrap() error { return e.cause }

// Status is the HTTP status of the answer.
func (e *Error) Status() int {
	if e.Upstream != 0 {
		return e.Upstream
	}
	return errorKinds[e.Code].Status
}

// asError finds the typed error in err, or wraps it as an internal one.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return fail(CodeInternal, "", "internal error").because(err)
}

// wireError adds to go-openai's error what the OpenAI API always sends: a
// param that is null when no field is at fault.
type wireError struct {
	openai.APIError
	Param *string `json:"param"`
}

// body is the OpenAI form of the error.
func (e *Error) body() []byte {
	w := wireError{APIError: openai.APIError{Message: e.Message, Type: errorKinds[e.Code].Type, Code: e.Code}}
	if e.Param != "" {
		w.Param = &e.Param
	}
	b, err := json.Marshal(struct {
		Error wireError `json:"error"`
	}{w})
	if err != nil {
		panic(err) // strings always marshal
	}
	return b
}

// event is the error as the last event of a stream.
func (e *Error) event() []byte {
	b := append([]byte("data: "), e.body()...)
	return append(b, "\n\n"...)
}

func (e *Error) write(w http.ResponseWriter) {
	if e.RetryAfter > 0 {
		// Whole seconds, rounded up: 0 would mean "at once".
		w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	writeJSON(w, e.Status(), e.body())
}

// writeJSON sends a whole JSON answer.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
