package agentpb

import (
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// MaxHashes bounds a hash list from the wire: a prompt of 16 M tokens in blocks
// of 16.
const MaxHashes = 1 << 20

const hashBytes = len(kv.Hash{})

// PackHashes appends hashes to dst, 16 bytes each.
func PackHashes(dst []byte, hashes []kv.Hash) []byte {
	for i := range hashes {
		dst = append(dst, hashes[i][:]...)
	}
	return dst
}

// UnpackHashes appends the hashes packed in b to dst.
func UnpackHashes(dst []kv.Hash, b []byte) ([]kv.Hash, error) {
	if len(b)%hashBytes != 0 || len(b)/hashBytes > MaxHashes {
		return dst, fmt.Errorf("agentpb: hash list of %d bytes: want a multiple of %d, at most %d hashes", len(b), hashBytes, MaxHashes)
	}
	for ; len(b) > 0; b = b[hashBytes:] {
		dst = append(dst, kv.Hash(b))
	}
	return dst, nil
}

// UnpackHash reads one hash; no bytes stand for the zero hash.
func UnpackHash(b []byte) (kv.Hash, error) {
	switch len(b) {
	case 0:
		return kv.Hash{}, nil
	case hashBytes:
		return kv.Hash(b), nil
	}
	return kv.Hash{}, fmt.Errorf("agentpb: hash of %d bytes, want %d", len(b), hashBytes)
}

// FromTier is a tier on the wire.
func FromTier(t kv.Tier) Tier { return Tier(t) + 1 }

// ToTier is the tier meant; false when this version does not know it.
func (t Tier) ToTier() (kv.Tier, bool) {
	return kv.Tier(t - 1), t > Tier_TIER_UNSPECIFIED && int(t) <= int(kv.NumTiers)
}

// FromEvent is a block event on the wire.
func FromEvent(e kv.Event) *BlockEvent {
	b := &BlockEvent{Kind: BlockEvent_Kind(e.Kind), Tier: FromTier(e.Tier)}
	if len(e.Hashes) > 0 {
		b.Hashes = PackHashes(make([]byte, 0, hashBytes*len(e.Hashes)), e.Hashes)
	}
	if e.Kind == kv.Stored {
		b.Parent = e.Parent[:]
	}
	return b
}

// ToEvent is the block event meant.
func (b *BlockEvent) ToEvent() (kv.Event, error) {
	e := kv.Event{Kind: kv.EventKind(b.GetKind())}
	if b.GetKind() < BlockEvent_KIND_STORED || b.GetKind() > BlockEvent_KIND_CLEARED {
		return e, fmt.Errorf("agentpb: unknown event kind %d", b.GetKind())
	}
	var ok bool
	if e.Tier, ok = b.GetTier().ToTier(); !ok && e.Tier != kv.Resume {
		return e, fmt.Errorf("agentpb: unknown tier %d", b.GetTier())
	}
	var err error
	if e.Parent, err = UnpackHash(b.GetParent()); err != nil {
		return e, err
	}
	e.Hashes, err = UnpackHashes(make([]kv.Hash, 0, len(b.GetHashes())/hashBytes), b.GetHashes())
	return e, err
}
