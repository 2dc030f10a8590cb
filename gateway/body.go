package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	if r.ContentLength < 0 {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		return b, bodyError(err, limit)
	}
	b := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, b); err != nil {
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

// edited is the client's body with what the gateway adds in front: the wish that
// tokens be named, and the tenant's salt in place of the client's. Without either
// it is the client's own bytes.
func (q *inference) edited(named bool) ([]byte, error) {
	if !named && !q.salted {
		return q.body, nil
	}
	var e edit
	if named {
		e.add = append(e.add, `"return_token_ids":true,`...)
	}
	if q.salted {
		e.add = fmt.Appendf(e.add, `"cache_salt":%q,`, q.salt) // hexadecimal digits
		if q.fields.has(fieldCacheSalt) || q.nulls.has(fieldCacheSalt) {
			e.drop = []string{fieldNames[fieldCacheSalt]}
		}
	}
	return e.of(q.body)
}

// edit is a change of a request's members: those named in drop go, and add is put
// in front of the others, whose bytes and order stay: a prompt is in them.
type edit struct {
	add  []byte // members, each with a comma behind it
	drop []string
}

func (e *edit) of(body []byte) ([]byte, error) {
	b := make([]byte, 0, len(body)+len(e.add)+1)
	b = append(append(b, '{'), e.add...)
	if len(e.drop) == 0 {
		return append(b, bytes.TrimLeft(body, " \t\r\n")[1:]...), nil
	}
	err := eachField(body, func(key, value []byte) error {
		if slices.Contains(e.drop, string(key)) {
			return nil
		}
		name, err := json.Marshal(string(key))
		b = append(append(append(append(b, name...), ':'), value...), ',')
		return err
	})
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, '}'), err
}
