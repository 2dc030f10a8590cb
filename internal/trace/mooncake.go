package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

const (
	// maxLine bounds a line: a prompt of millions of tokens still fits.
	maxLine = 16 << 20
	// maxMS bounds timestamps, so that they fit a Duration with room to scale.
	maxMS = 1e12
)

// line is a request as Mooncake's traces have it.
type line struct {
	Timestamp *float64 `json:"timestamp"` // ms
	Input     int      `json:"input_length"`
	Output    int      `json:"output_length"`
	HashIDs   []uint64 `json:"hash_ids"`
	Session   string   `json:"session_id"` // ours; Mooncake's traces have none
}

// ReadFile reads a trace file, gzipped or not. Its SHA256 is that of the file.
func ReadFile(path string, blockSize int) (*Trace, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	var r io.Reader = bytes.NewReader(raw)
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("trace: %s: %w", path, err)
		}
	}
	t, err := Read(r, blockSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(raw)
	t.Name, t.SHA256 = filepath.Base(path), hex.EncodeToString(sum[:])
	return t, nil
}

// Read reads Mooncake's format: a JSON object a line, in order of arrival.
// Errors name the line.
func Read(r io.Reader, blockSize int) (*Trace, error) {
	if blockSize <= 0 {
		return nil, fmt.Errorf("trace: block size %d: want at least 1", blockSize)
	}
	t := &Trace{BlockSize: blockSize}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n, last := 0, time.Duration(0)
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		q, err := parse(lines.Bytes())
		if err == nil {
			err = q.check(blockSize, last)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		last = q.At
		t.Requests = append(t.Requests, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(t.Requests) == 0 {
		return nil, errors.New("no requests")
	}
	return t, nil
}

func parse(text []byte) (Request, error) {
	var l line
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Request{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, errors.New("more than one JSON object")
	}
	if l.Timestamp == nil {
		return Request{}, errors.New("no timestamp (milliseconds)")
	}
	if ms := *l.Timestamp; !(ms >= 0 && ms <= maxMS) {
		return Request{}, fmt.Errorf("timestamp %v: want 0 to %v ms", ms, float64(maxMS))
	}
	if l.Input > math.MaxInt32 || l.Output > math.MaxInt32 {
		return Request{}, fmt.Errorf("input of %d and output of %d tokens: too many", l.Input, l.Output)
	}
	return Request{
		At:    time.Duration(*l.Timestamp * float64(time.Millisecond)),
		Input: l.Input, Output: l.Output, Blocks: l.HashIDs, Session: l.Session,
	}, nil
}

// Write writes the trace in the format that Read reads.
func (t *Trace) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	for i := range t.Requests {
		r := &t.Requests[i]
		ms := float64(r.At) / float64(time.Millisecond)
		out := struct {
			Timestamp float64  `json:"timestamp"`
			Input     int      `json:"input_length"`
			Output    int      `json:"output_length"`
			HashIDs   []uint64 `json:"hash_ids"`
			Session   string   `json:"session_id,omitempty"`
		}{ms, r.Input, r.Output, r.Blocks, r.Session}
		if err := e.Encode(out); err != nil {
			return err
		}
	}
	return b.Flush()
}
