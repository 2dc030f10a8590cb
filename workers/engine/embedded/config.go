package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
)

// Config is one engine. Only Model must be given.
type Config struct {
	// Model is a GGUF file or a Hugging Face folder.
	Model string
	// Name is what clients ask for. Default: the file's or folder's name.
	Name string
	// Listen is the HTTP address. Default 127.0.0.1:0.
	Listen string
	// BlockSize is the tokens of a KV block. Default 16.
	BlockSize int
	// GPUBlocks is the number of KV pages. Default 1024.
	GPUBlocks int
	// MaxContext bounds a sequence, in tokens. Default: what the model and the
	// pages allow.
	MaxContext int
	// MaxSeqs bounds the batch. Default 32.
	MaxSeqs int
	// MaxQueue bounds the sequences that wait for a place in the batch; a request
	// that comes on top is answered 503. Default 512.
	MaxQueue int
	// ChunkTokens bounds the prompt tokens that one step computes. Default 512.
	ChunkTokens int
	// Threads compute. Default: one a core.
	Threads int
	// RestoreTimeout is when a restore is late and its blocks are computed
	// instead. Default 10 s.
	RestoreTimeout time.Duration
	// Tiers are those below the pages. The engine fills in Layout and GPUBlocks.
	Tiers kvbm.Config
	// Events and Replay are where KV events are published. Default tcp://127.0.0.1:0.
	Events, Replay string
	// Topic is the events' topic. Default kv@NAME.
	Topic string
	// Log defaults to silence.
	Log *slog.Logger
}

// EventSource is where an engine publishes its KV events.
type EventSource struct {
	Endpoint, Replay, Topic string
}

func (c *Config) setDefaults() {
	name := strings.TrimSuffix(filepath.Base(c.Model), ".gguf")
	text := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	number := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	text(&c.Name, name)
	text(&c.Listen, "127.0.0.1:0")
	text(&c.Events, "tcp://127.0.0.1:0")
	text(&c.Replay, "tcp://127.0.0.1:0")
	text(&c.Topic, "kv@"+c.Name)
	number(&c.BlockSize, 16)
	number(&c.GPUBlocks, 1024)
	number(&c.MaxSeqs, 32)
	number(&c.MaxQueue, 512)
	number(&c.ChunkTokens, 512)
	if c.RestoreTimeout == 0 {
		c.RestoreTimeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	if c.Model == "" {
		return errors.New("embedded: no model given; set Model to a .gguf file or a Hugging Face folder")
	}
	for _, f := range []struct {
		name string
		v    int
	}{{"BlockSize", c.BlockSize}, {"GPUBlocks", c.GPUBlocks}, {"MaxSeqs", c.MaxSeqs}, {"MaxQueue", c.MaxQueue}, {"ChunkTokens", c.ChunkTokens}} {
		if f.v < 1 {
			return fmt.Errorf("embedded: %s is %d; it must be at least 1", f.name, f.v)
		}
	}
	return nil
}

// fitContext settles MaxContext: no sequence may need more pages than there are,
// or it could never finish.
func (c *Config) fitContext(m *llama.Model) error {
	model, pages := m.Config().MaxContext, c.GPUBlocks*c.BlockSize
	switch {
	case c.MaxContext == 0:
		c.MaxContext = min(model, pages)
	case c.MaxContext < 0 || c.MaxContext > model:
		return fmt.Errorf("embedded: MaxContext is %d; the model's own limit is %d tokens", c.MaxContext, model)
	case c.MaxContext > pages:
		return fmt.Errorf("embedded: MaxContext of %d tokens needs at least %d GPUBlocks of %d tokens; there are %d", c.MaxContext, (c.MaxContext+c.BlockSize-1)/c.BlockSize, c.BlockSize, c.GPUBlocks)
	}
	return nil
}
