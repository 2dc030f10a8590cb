package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// readBody reads the whole request body, at most limit bytes of it. Reading to
// the end before anything is answered also keeps the server from closing the
// body under a transport that still reads it, which truncates fast streams.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, fail(CodeContentEncoding, "", "the body has Content-Encoding %q; send it uncompressed", e)
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body := http.MaxBytesReader(w, r.Body, limit)
	if r.ContentLength < 0 {
		b, err := io.ReadAll(body)
		return b, bodyError(err, limit)
	}
	b := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, bodyError(err, limit)
	}
	return b, nil
}

func bodyError(err error, limit int64) error {
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large):
		return tooLarge(limit)
	}
	return fail(CodeUnreadableBody, "", "the body could not be read to its end").because(err)
}

func tooLarge(limit int64) error {
	return fail(CodeBodyTooLarge, "", "the body is larger than the %d bytes that this gateway takes", limit)
}
