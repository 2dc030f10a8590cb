package kv

import "fmt"

// Tier is where a block's bytes are, nearest to the compute first: a lower
// value is never slower to use than a higher one on sane hardware.
type Tier uint8

// The tiers, in the order in which a worker prefers to read from them.
const (
	GPU   Tier = iota // the engine's own KV pages
	CPU               // the block manager's host pool, pinned when a GPU is there
	Disk              // the worker's local slab
	Redis             // shared by every worker that is configured with the same store
	Peer              // another worker's CPU tier
	NumTiers
)

// Resume is not a tier but a mark beside the GPU tier, in events and in the
// index only. Engines whose layers do not all keep whole prefixes (sliding
// windows, Mamba) can reuse a prefix up to blocks so marked and no others; a
// worker that never marked a block can reuse up to any.
const (
	Resume   = NumTiers
	NumMarks = Resume + 1
)

var tierNames = [NumTiers]string{"gpu", "cpu", "disk", "redis", "peer"}

// String is the tier's name in configuration, JSON and metrics.
func (t Tier) String() string {
	switch {
	case t < NumTiers:
		return tierNames[t]
	case t == Resume:
		return "resume"
	}
	return fmt.Sprintf("tier(%d)", uint8(t))
}

// ParseTier reads what String wrote.
func ParseTier(s string) (Tier, error) {
	for t, name := range tierNames {
		if s == name {
			return Tier(t), nil
		}
	}
	return 0, fmt.Errorf("kv: unknown tier %q (gpu, cpu, disk, redis or peer)", s)
}

// MarshalText and UnmarshalText use the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a tier's name.
func (t *Tier) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTier(string(b))
	return err
}

// TierSet is a set of tiers.
type TierSet uint8

// Tiers is the set of the given tiers.
func Tiers(ts ...Tier) (s TierSet) {
	for _, t := range ts {
		s |= 1 << t
	}
	return s
}

// Has reports whether t is in the set.
func (s TierSet) Has(t Tier) bool { return s&(1<<t) != 0 }

// With is the set and t.
func (s TierSet) With(t Tier) TierSet { return s | 1<<t }

// Without is the set less t.
func (s TierSet) Without(t Tier) TierSet { return s &^ (1 << t) }

// String lists the tiers' names, joined by "+".
func (s TierSet) String() string {
	var b []byte
	for t := Tier(0); t < NumTiers; t++ {
		if s.Has(t) {
			if len(b) > 0 {
				b = append(b, '+')
			}
			b = append(b, t.String()...)
		}
	}
	return string(b)
}

// Span is a run of consecutive blocks of one prefix that are in the same tiers
// of one worker.
type Span struct {
	Blocks int
	Tiers  TierSet
}
