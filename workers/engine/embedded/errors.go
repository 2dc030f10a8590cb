package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// apiError is an error as OpenAI's clients know it.
type apiError struct {
	status  int
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *apiError) Error() string { return e.Message }

// MarshalJSON nests the error under "error", as OpenAI does.
func (e *apiError) MarshalJSON() ([]byte, error) {
	type bare apiError
	return json.Marshal(map[string]*bare{"error": (*bare)(e)})
}

func (e *apiError) withCode(code string) *apiError {
	e.Code = &code
	return e
}

// badField blames one field of the request.
func badField(param, format string, args ...any) *apiError {
	e := &apiError{status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), Type: "invalid_request_error"}
	if param != "" {
		e.Param = &param
	}
	return e
}

func errTooLong(param, format string, args ...any) *apiError {
	return badField(param, format, args...).withCode("context_length_exceeded")
}

// errBusy asks the client to come back: full queue or shutting down.
func errBusy(code, message string) *apiError {
	return (&apiError{status: http.StatusServiceUnavailable, Message: message, Type: "server_error"}).withCode(code)
}

func errInternal(err error) *apiError {
	return &apiError{status: http.StatusInternalServerError, Message: err.Error(), Type: "server_error"}
}

// asAPIError blames the request body for what went wrong while reading it.
func asAPIError(err error) *apiError {
	var api *apiError
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &api):
		return api
	case errors.As(err, &tooLarge):
		e := badField("", "the request body exceeds %d bytes", tooLarge.Limit)
		e.status = http.StatusRequestEntityTooLarge
		return e
	case errors.As(err, &wrongType):
		// encoding/json names the embedded struct too, which no client knows.
		field := strings.TrimPrefix(wrongType.Field, "generation.")
		return badField(field, "%s: want %s, got %s", field, wrongType.Type, wrongType.Value)
	}
	return badField("", "the request body is not valid JSON: %v", err)
}

func writeError(w http.ResponseWriter, e *apiError) {
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}
