package events

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// trtEvent is one of TensorRT-LLM's events, in terms of the others'.
type trtEvent struct {
	id      uint64
	rank    int
	window  int
	created bool // tells of the cache's windows, nothing else
	moved   bool // hash went from one tier to another
	hash    EngineHash
	from,
	to kv.Tier
	events  []Event
	unknown bool
}

// wireTRT is an element of the list that POST /kv_cache_events returns.
type wireTRT struct {
	ID     uint64 `json:"event_id"`
	Window int    `json:"window_size"`
	Rank   int    `json:"attention_dp_rank"`
	Data   struct {
		Type   string      `json:"type"`
		Parent *trtHash    `json:"parent_hash"`
		Blocks []wireBlock `json:"blocks"`
		Hashes []trtHash   `json:"block_hashes"`
		Hash   trtHash     `json:"block_hash"`
		Level  struct {
			New int `json:"new_value"`
			Old int `json:"old_value"`
		} `json:"cache_level"`
	} `json:"data"`
}

type wireBlock struct {
	Hash   trtHash `json:"block_hash"`
	Tokens []struct {
		ID    uint32 `json:"token_id"`
		Extra uint64 `json:"token_extra_id"`
	} `json:"tokens"`
	Level int    `json:"cache_level"`
	LoRA  *int64 `json:"lora_id"`
}

// trtHash is a block hash: an integer of either sign, or text.
type trtHash EngineHash

// UnmarshalJSON implements json.Unmarshaler.
func (h *trtHash) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*h = trtHash(BytesHash(b))
		return nil
	}
	if v, err := strconv.ParseUint(string(b), 10, 64); err == nil {
		*h = trtHash(v)
		return nil
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	*h = trtHash(v)
	return err
}

// levels are TensorRT-LLM's cache levels.
func levelTier(level int) kv.Tier {
	if level == 0 {
		return kv.GPU
	}
	return kv.CPU
}

// media of the tiers that levels stand for.
var levelMedia = [...]string{kv.GPU: MediumGPU, kv.CPU: MediumCPU}

func decodeTRTLLM(body []byte) ([]trtEvent, error) {
	var wire []wireTRT
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if len(wire) > maxEvents {
		return nil, fmt.Errorf("%w: list of %d events", errMalformed, len(wire))
	}
	list := make([]trtEvent, len(wire))
	for i := range wire {
		w, e := &wire[i], &list[i]
		e.id, e.rank, e.window = w.ID, w.Rank, w.Window
		switch w.Data.Type {
		case "created":
			e.created = true
		case "stored":
			e.events = w.stored()
		case "removed":
			e.events = w.removed()
		case "updated":
			e.hash = EngineHash(w.Data.Hash)
			e.from, e.to = levelTier(w.Data.Level.Old), levelTier(w.Data.Level.New)
			e.moved = true
		default:
			e.unknown = true
		}
	}
	return list, nil
}

// removed does not say from which level: from both.
func (w *wireTRT) removed() (events []Event) {
	hashes := make([]EngineHash, len(w.Data.Hashes))
	for i, h := range w.Data.Hashes {
		hashes[i] = EngineHash(h)
	}
	for _, medium := range levelMedia {
		events = append(events, Event{Kind: kv.Removed, Hashes: hashes, Medium: medium})
	}
	return events
}

// stored makes an event of each run of whole blocks in one level. The last block
// of a prompt may be stored partly filled: our hashes name whole ones only.
func (w *wireTRT) stored() (events []Event) {
	var parent *EngineHash
	if w.Data.Parent != nil && *w.Data.Parent != 0 {
		p := EngineHash(*w.Data.Parent)
		parent = &p
	}
	for i := range w.Data.Blocks {
		b := &w.Data.Blocks[i]
		h := EngineHash(b.Hash)
		tier := levelTier(b.Level)
		e := Event{Kind: kv.Stored, Hashes: []EngineHash{h}, Parent: parent, BlockSize: len(b.Tokens), Medium: levelMedia[tier]}
		e.extra.known = true
		odd := b.LoRA != nil
		for _, t := range b.Tokens {
			e.Tokens = append(e.Tokens, t.ID)
			odd = odd || t.Extra != 0
		}
		// Nothing says which salt or adapter a prompt's first block had, but its
		// hash is another then.
		e.rootless = parent == nil && trtRoot(e.Tokens) != h
		if e.odd = 1; odd {
			e.odd = 0
		}
		if last := len(events) - 1; last >= 0 && events[last].joins(&e) {
			events[last].Hashes = append(events[last].Hashes, h)
			events[last].Tokens = append(events[last].Tokens, e.Tokens...)
			events[last].odd++
		} else {
			events = append(events, e)
		}
		parent = &h
	}
	return events
}

// joins reports whether next, a single plain block, goes on where e ends.
func (e *Event) joins(next *Event) bool {
	return e.Medium == next.Medium && e.BlockSize == next.BlockSize && e.odd == len(e.Hashes) && next.odd == 1 && !e.rootless
}

// trtRoot is TensorRT-LLM's hash (v1_block_key) of a prompt's first block, with
// neither adapter nor salt.
func trtRoot(tokens []uint32) EngineHash { return trtHashOf(0, tokens) }

func trtHashOf(parent uint64, tokens []uint32) EngineHash {
	seed := uint64(len(tokens)) ^ parent*0xBF58476D1CE4E5B9
	for _, v := range tokens {
		v = (v>>16 ^ v) * 0x45D9F3B
		v = (v>>16 ^ v) * 0x45D9F3B
		v = v>>16 ^ v
		seed ^= uint64(v+0x9E3779B9) + seed<<6 + seed>>2
	}
	return EngineHash(seed)
}
