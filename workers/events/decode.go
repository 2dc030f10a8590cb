package events

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Limits on one batch from the wire, far above what engines send.
const (
	maxEvents = 1 << 16
	maxHashes = 1 << 16 // in one event
	maxTokens = 1 << 22 // in one event
	maxGroup  = 1<<16 - 1
)

var errMalformed = errors.New("malformed event batch")

// decodeBatch reads a batch: [time, events] or [time, events, rank], events
// being arrays (vLLM until 0.23) or maps. Events of unknown type come as Event
// with unknown set. What the events point to is good until b is decoded into
// again.
func decodeBatch(b *Batch, payload []byte) error {
	*b = Batch{Events: b.Events[:0], memory: b.memory.emptied()}
	d := decoder{b: payload, memory: &b.memory}
	n := d.arrayLen(16)
	if n < 2 {
		d.fail("batch of %d elements", n)
	}
	b.Time = d.float()
	events := d.arrayLen(maxEvents)
	for range events {
		if d.err != nil {
			return d.err
		}
		b.Events = append(b.Events, d.event())
	}
	if n > 2 {
		if rank, ok := d.optionalInt(); ok {
			b.Rank = int(rank)
		}
		for range n - 3 {
			d.skip()
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes behind the batch", len(d.b))
	}
	return d.err
}

// event reads one event in either form.
func (d *decoder) event() Event {
	switch d.peek() {
	case kindArray:
		return d.arrayEvent()
	case kindMap:
		return d.mapEvent()
	}
	d.fail("event is neither an array nor a map")
	return Event{}
}

// kindOf names the event types on the wire.
func kindOf(name []byte) (kv.EventKind, bool) {
	switch string(name) {
	case "BlockStored":
		return kv.Stored, true
	case "BlockRemoved":
		return kv.Removed, true
	case "AllBlocksCleared":
		return kv.Cleared, true
	}
	return 0, false
}

// Positions of the fields in the array form.
var (
	storedFields = []string{"block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
		"extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "locality"}
	removedFields = []string{"block_hashes", "medium", "group_idx", "locality"}
)

func (d *decoder) arrayEvent() Event {
	n := d.arrayLen(64)
	if n == 0 {
		d.fail("event without a type")
		return Event{}
	}
	kind, known := kindOf(d.bytes())
	e := Event{Kind: kind, unknown: !known}
	var fields []string
	switch kind {
	case kv.Stored:
		fields = storedFields
	case kv.Removed:
		fields = removedFields
	}
	for i := range n - 1 {
		if i < len(fields) {
			d.field(&e, []byte(fields[i]))
		} else {
			d.skip()
		}
	}
	e.interpret()
	return e
}

func (d *decoder) mapEvent() Event {
	n := d.mapLen(64)
	var e Event
	typed := false
	for range n {
		name := d.bytes()
		if string(name) != "type" {
			d.field(&e, name)
			continue
		}
		kind, known := kindOf(d.bytes())
		e.Kind, e.unknown, typed = kind, !known, true
	}
	if !typed {
		d.fail("event without a type")
	}
	e.interpret()
	return e
}

// field reads the value of one field. Those that this version does not know are
// passed over.
func (d *decoder) field(e *Event, name []byte) {
	if d.err != nil {
		return
	}
	switch string(name) {
	case "block_hashes":
		e.Hashes = d.hashes()
	case "parent_block_hash":
		if !d.null() {
			d.memory.parents = append(d.memory.parents, d.hash())
			e.Parent = &d.memory.parents[len(d.memory.parents)-1]
		}
	case "token_ids":
		e.Tokens = d.tokens()
	case "block_size":
		if n, ok := d.optionalInt(); ok && n >= 0 && n <= maxTokens {
			e.BlockSize = int(n)
		}
	case "medium":
		e.Medium = d.medium()
	case "lora_name":
		e.LoRA = d.optionalStr()
	case "cache_salt": // SGLang
		e.Salt = d.optionalStr()
	case "group_idx":
		if n, ok := d.optionalInt(); ok {
			e.Group = int(min(max(n, -1), maxGroup+1))
		}
	case "kv_cache_spec_kind":
		e.window = !wholePrefix(d.optionalStr())
	case "kv_cache_spec_sliding_window":
		if n, ok := d.optionalInt(); ok && n > 0 && n <= maxTokens {
			e.windowTokens = int(n)
		}
	case "extra_keys":
		e.extra = d.extraKeys()
	case "locality":
		e.remote = d.optionalStr() == "REMOTE"
	case "origin": // vLLM, some time after 0.33
		e.reused = d.optionalStr() == "REUSED"
	default:
		d.skip()
	}
}

// wholePrefix reports whether a KV cache group keeps all blocks of a prefix, so
// that holding its block i means that blocks 0 to i can be reused.
func wholePrefix(spec string) bool {
	switch spec {
	case "", "full_attention", "mla_attention", "mla":
		return true
	}
	return false
}

// interpret reads extra_keys: a list per block of the adapter's name, and in a
// prompt's first block the salt. Anything else is not covered by our hashes.
func (e *Event) interpret() {
	e.odd = len(e.Hashes)
	blocks := 0
	if e.BlockSize > 0 {
		blocks = len(e.Tokens) / e.BlockSize
	}
	// A list shorter than the blocks leaves the first ones out, and with them
	// the salt.
	e.rootless = e.Parent == nil && e.extra.known && e.extra.n < blocks
	for i, x := range e.extra.per {
		if len(x.names) > 0 && x.names[0] == e.LoRA {
			x.names = x.names[1:]
		}
		if i == 0 && e.Parent == nil && !e.rootless && len(x.names) == 1 {
			e.Salt, x.names = x.names[0], nil
		}
		if x.odd || len(x.names) > 0 {
			e.odd = max(min(e.odd, len(e.Hashes)-e.extra.n+i), 0)
		}
	}
}

// hashes reads a list of block hashes.
func (d *decoder) hashes() []EngineHash {
	n := d.arrayLen(maxHashes)
	hs := slices.Grow(d.memory.hashes, d.plausible(n))
	start := len(hs)
	for range n {
		if d.err != nil {
			break
		}
		if len(d.b) >= 9 && (d.b[0] == 0xCF || d.b[0] == 0xD3) { // as good as all
			hs = append(hs, EngineHash(binary.BigEndian.Uint64(d.b[1:])))
			d.b = d.b[9:]
			continue
		}
		hs = append(hs, d.hash())
	}
	d.memory.hashes = hs
	return hs[start:len(hs):len(hs)]
}

// hash reads a block hash: an integer of either sign, or bytes.
func (d *decoder) hash() EngineHash {
	switch d.peek() {
	case kindUint:
		return IntHash(d.uint())
	case kindInt:
		return IntHash(uint64(d.int()))
	case kindBytes, kindString:
		return BytesHash(d.bytes())
	}
	d.fail("block hash is neither an integer nor bytes")
	return 0
}

// tokens reads token ids. SGLang's EAGLE mode sends each with its successor.
// What is not a token id makes the event useless, not the batch.
func (d *decoder) tokens() []uint32 {
	if d.null() {
		return nil
	}
	n := d.arrayLen(maxTokens)
	ts := slices.Grow(d.memory.tokens, d.plausible(n))
	start := len(ts)
	for len(ts) < start+n && d.err == nil {
		ts = d.plainTokens(ts, start+n-len(ts))
		if len(ts) == start+n {
			break
		}
		ts = append(ts, d.token())
	}
	d.memory.tokens = ts
	return ts[start:len(ts):len(ts)]
}

func (d *decoder) token() uint32 {
	rest := 0
	if d.peek() == kindArray {
		rest = d.arrayLen(64) - 1
	}
	t := uint64(math.MaxUint32)
	if rest >= 0 && d.peek() == kindUint {
		t = d.uint()
	} else if rest >= 0 {
		d.skip()
	}
	for range rest {
		d.skip()
	}
	if t > math.MaxUint32 {
		d.fail("token id %d", t)
	}
	return uint32(t)
}

// plainTokens appends up to n token ids to ts, as long as they are in the forms
// that token ids usually have and well inside the message. Nearly all bytes of a
// long prompt's event are read here, so there is no branch on which of the three
// forms an id has: processors guess that wrong every other time.
func (d *decoder) plainTokens(ts []uint32, n int) []uint32 {
	b, at := d.b, 0
	k := len(ts)
	ts = slices.Grow(ts, min(n, len(b)))[:k+min(n, len(b))]
	for ; k < len(ts) && at+8 <= len(b); k++ {
		x := binary.BigEndian.Uint64(b[at:])
		c := x >> 56
		if c-0xCC > 2 { // not 1, 2 or 4 bytes behind a code
			if c > 0x7F {
				break
			}
			ts[k] = uint32(c)
			at++
			continue
		}
		size := 1 << (c & 3)
		ts[k] = uint32(x << 8 >> ((64 - 8*size) & 63))
		at += 1 + size
	}
	d.b = b[at:]
	return ts[:k]
}

// medium reads the name of where blocks are; the usual ones cost no memory.
func (d *decoder) medium() string {
	if k := d.peek(); k != kindString && k != kindBytes {
		d.skip()
		return ""
	}
	switch b := d.bytes(); string(b) {
	case MediumGPU:
		return MediumGPU
	case MediumCPU:
		return MediumCPU
	default:
		return string(b)
	}
}

// extraKeys reads, per block, nil or a list of what was mixed into its hash. No
// list at all means that the sender does not say.
func (d *decoder) extraKeys() extraKeys {
	if d.null() {
		return extraKeys{}
	}
	x := extraKeys{known: true, n: d.arrayLen(maxHashes)}
	for i := range x.n {
		if d.err != nil {
			break
		}
		if d.null() {
			continue
		}
		for len(x.per) < i {
			x.per = append(x.per, blockExtra{})
		}
		x.per = append(x.per, d.blockExtra())
	}
	return x
}

// blockExtra reads what was mixed into one block's hash: names as strings, the
// salt also as a pair of "cache_salt" and itself.
func (d *decoder) blockExtra() (x blockExtra) {
	if d.peek() != kindArray {
		d.skip()
		return blockExtra{odd: true}
	}
	for range d.arrayLen(64) {
		switch d.peek() {
		case kindString:
			x.names = append(x.names, string(d.bytes()))
		case kindArray:
			if salt, ok := d.saltPair(); ok {
				x.names = append(x.names, salt)
			} else {
				x.odd = true
			}
		default:
			d.skip()
			x.odd = true
		}
	}
	return x
}

func (d *decoder) saltPair() (salt string, ok bool) {
	n := d.arrayLen(64)
	for i := range n {
		switch {
		case d.peek() != kindString:
			d.skip()
			ok = false
		case i == 0:
			ok = n == 2 && string(d.bytes()) == "cache_salt"
		default:
			salt = string(d.bytes())
		}
	}
	return salt, ok
}
