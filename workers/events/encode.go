package events

import (
	"bytes"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Encode is a batch as it goes over the wire.
func Encode(b Batch) ([]byte, error) {
	var buf bytes.Buffer
	err := appendBatch(&buf, b)
	return buf.Bytes(), err
}

// appendBatch encodes a batch as vLLM 0.24 and later do: an array of time,
// events and rank, with each event a map that carries its type.
func appendBatch(buf *bytes.Buffer, b Batch) error {
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	e.Reset(buf)
	e.UseCompactInts(true)
	w := wire{e: e}
	w.array(3)
	w.do(e.EncodeFloat64(b.Time))
	w.array(len(b.Events))
	for i := range b.Events {
		w.event(&b.Events[i])
	}
	w.do(e.EncodeInt(int64(b.Rank)))
	return w.err
}

// wire keeps the first error, so that encoding reads as a list of fields.
type wire struct {
	e   *msgpack.Encoder
	err error
}

func (w *wire) do(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *wire) array(n int)       { w.do(w.e.EncodeArrayLen(n)) }
func (w *wire) fields(n int)      { w.do(w.e.EncodeMapLen(n)) }
func (w *wire) str(s string)      { w.do(w.e.EncodeString(s)) }
func (w *wire) hash(h EngineHash) { w.do(w.e.EncodeUint(uint64(h))) }

func (w *wire) orNil(s string) {
	if s == "" {
		w.do(w.e.EncodeNil())
		return
	}
	w.str(s)
}

func (w *wire) hashes(hs []EngineHash) {
	w.str("block_hashes")
	w.array(len(hs))
	for _, h := range hs {
		w.hash(h)
	}
}

func (w *wire) medium(m string) {
	if m == "" {
		m = MediumGPU
	}
	w.str("medium")
	w.str(m)
}

func (w *wire) event(ev *Event) {
	switch ev.Kind {
	case kv.Stored:
		w.stored(ev)
	case kv.Removed:
		w.fields(4)
		w.str("type")
		w.str("BlockRemoved")
		w.hashes(ev.Hashes)
		w.medium(ev.Medium)
		w.str("group_idx")
		w.do(w.e.EncodeInt(int64(ev.Group)))
	default:
		w.fields(1)
		w.str("type")
		w.str("AllBlocksCleared")
	}
}

func (w *wire) stored(ev *Event) {
	w.fields(10)
	w.str("type")
	w.str("BlockStored")
	w.hashes(ev.Hashes)
	w.str("parent_block_hash")
	if ev.Parent == nil {
		w.do(w.e.EncodeNil())
	} else {
		w.hash(*ev.Parent)
	}
	w.str("token_ids")
	w.array(len(ev.Tokens))
	for _, t := range ev.Tokens {
		w.do(w.e.EncodeUint(uint64(t)))
	}
	w.str("block_size")
	w.do(w.e.EncodeInt(int64(ev.BlockSize)))
	w.str("lora_id")
	w.do(w.e.EncodeNil())
	w.medium(ev.Medium)
	w.str("lora_name")
	w.orNil(ev.LoRA)
	w.extraKeys(ev)
	w.str("group_idx")
	w.do(w.e.EncodeInt(int64(ev.Group)))
}

// extraKeys lists per block what was mixed into its hash: the adapter's name in
// each, the salt in a prompt's first.
func (w *wire) extraKeys(ev *Event) {
	w.str("extra_keys")
	w.array(len(ev.Hashes))
	for i := range ev.Hashes {
		var keys []string
		if ev.LoRA != "" {
			keys = append(keys, ev.LoRA)
		}
		if i == 0 && ev.Parent == nil && ev.Salt != "" {
			keys = append(keys, ev.Salt)
		}
		if keys == nil {
			w.do(w.e.EncodeNil())
			continue
		}
		w.array(len(keys))
		for _, k := range keys {
			w.str(k)
		}
	}
}
