package plugin

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	// protocol is the version that both sides must have.
	protocol = 1
	// maxLine bounds a message: a stage of a million tokens in blocks of 16.
	maxLine = 2 << 20
	// maxBlocks bounds the blocks that one message names.
	maxBlocks = 64 << 10
	hashBytes = len(kv.Hash{})
)

// request is a message of the plug-in: one JSON object a line. Op says which
// fields count. Hashes are of 16 bytes each, one after another, in base64.
type request struct {
	Op string `json:"op"`

	// hello
	Version int    `json:"version"`
	Role    string `json:"role"` // scheduler or worker
	Engine  string `json:"engine"`
	Model   string `json:"model"` // as the engine serves it
	Layout  layout `json:"layout"`

	// stage, release
	ID    string `json:"id"`
	Seq   int    `json:"seq"`   // tells stagings for one id apart
	First int    `json:"first"` // blocks before it are the engine's already

	// stage: a prompt's blocks from the beginning; commit: any blocks
	Root    []byte `json:"root"`
	Hashes  []byte `json:"hashes"`
	Parents []byte `json:"parents"`
	Slots   []int  `json:"slots"`

	// reserve, loaded
	Count int `json:"count"`

	// loaded: how long the copies of so many blocks took
	Micros int64 `json:"micros"`
}

// layout is what a block's bytes depend on, as the engine part that has the
// pages knows it.
type layout struct {
	Fingerprint string `json:"fingerprint"` // of the weights' shape and the pages'
	DType       string `json:"dtype"`
	Layers      int    `json:"layers"`
	BlockSize   int    `json:"block_size"`
	BlockBytes  int    `json:"block_bytes"`
}

// The answers. Each message has one of the fields.
type answer struct {
	Hello   *hello   `json:"hello,omitempty"`
	Staged  *staged  `json:"staged,omitempty"`
	Granted *granted `json:"granted,omitempty"`
	Error   string   `json:"error,omitempty"` // the connection ends
}

type hello struct {
	Version int `json:"version"`
	// Model is what block hashes start from.
	Model     string `json:"model"`
	BlockSize int    `json:"block_size"`
	// Pool names the memory: slot numbers mean nothing in another one.
	Pool string `json:"pool"`
}

type staged struct {
	ID  string `json:"id"`
	Seq int    `json:"seq"`
	// Slots of Pool hold the blocks from the first asked for on.
	Pool  string `json:"pool"`
	Slots []int  `json:"slots"`
	// Held is how many leading blocks of the prompt some tier has: they need
	// not be saved.
	Held   int   `json:"held"`
	HoldMS int64 `json:"hold_ms"`
}

type granted struct {
	Slots []int `json:"slots"`
}

// parse reads a message and checks what can be checked without any state.
func parse(line []byte) (*request, error) {
	r := new(request)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("not a message: %w", err)
	}
	n := len(r.Hashes) / hashBytes
	switch r.Op {
	case "hello":
		return r, r.checkHello()
	case "stage":
		switch {
		case r.ID == "":
			return nil, errors.New("stage: no id")
		case len(r.Root) != hashBytes || len(r.Hashes)%hashBytes != 0 || n > maxBlocks:
			return nil, fmt.Errorf("stage: a root of %d and hashes of %d bytes; want %d and up to %d times as many", len(r.Root), len(r.Hashes), hashBytes, maxBlocks)
		case r.First < 0 || r.First > n:
			return nil, fmt.Errorf("stage: first is %d of %d blocks", r.First, n)
		}
	case "release":
		if r.ID == "" {
			return nil, errors.New("release: no id")
		}
	case "reserve", "loaded":
		if r.Count < 1 || r.Count > maxBlocks || r.Micros < 0 {
			return nil, fmt.Errorf("%s: count is %d; want 1 to %d", r.Op, r.Count, maxBlocks)
		}
	case "commit":
		if want := len(r.Slots) * hashBytes; len(r.Hashes) != want || len(r.Parents) != want || len(r.Slots) > maxBlocks {
			return nil, fmt.Errorf("commit: %d slots with %d and %d bytes of hashes and parents; want %d of each", len(r.Slots), len(r.Hashes), len(r.Parents), want)
		}
	case "abort":
	default:
		return nil, fmt.Errorf("unknown op %.20q: the plug-in and the agent are of different versions", r.Op)
	}
	return r, nil
}

func (r *request) checkHello() error {
	switch {
	case r.Version != protocol:
		return fmt.Errorf("the plug-in speaks version %d of the protocol, this agent %d: install the kvasir-vllm of this release", r.Version, protocol)
	case r.Role == "scheduler":
		return nil
	case r.Role != "worker":
		return fmt.Errorf("role %.20q: want scheduler or worker", r.Role)
	case r.Model == "" || r.Layout.Fingerprint == "":
		return errors.New("hello: a worker says its model and its layout's fingerprint")
	}
	for _, n := range []int{r.Layout.Layers, r.Layout.BlockSize, r.Layout.BlockBytes} {
		if n < 1 || n > 1<<30 {
			return fmt.Errorf("hello: %d is no size of a layout", n)
		}
	}
	return nil
}

// hashesOf unpacks what parse has measured.
func hashesOf(b []byte) []kv.Hash {
	hs := make([]kv.Hash, len(b)/hashBytes)
	for i := range hs {
		copy(hs[i][:], b[i*hashBytes:])
	}
	return hs
}
