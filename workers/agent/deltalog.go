package agent

import "github.com/kvasir-ai/kvasir/internal/kv"

// delta is one numbered change; its events never change.
type delta struct {
	seq    uint64
	events []kv.Event
	blocks int
}

// deltaLog keeps the latest deltas, bounded by the blocks that they name. Pure.
type deltaLog struct {
	maxBlocks int
	last      uint64 // number of the latest delta; 0: none yet
	kept      []delta
	head      int // kept[head:] are current
	blocks    int
}

func (l *deltaLog) add(events []kv.Event) {
	l.last++
	d := delta{seq: l.last, events: events, blocks: 1}
	for _, e := range events {
		d.blocks += len(e.Hashes)
	}
	l.kept = append(l.kept, d)
	l.blocks += d.blocks
	for l.blocks > l.maxBlocks && l.head < len(l.kept)-1 {
		l.blocks -= l.kept[l.head].blocks
		l.kept[l.head].events = nil
		l.head++
	}
	if l.head > len(l.kept)/2 {
		l.kept = append([]delta(nil), l.kept[l.head:]...)
		l.head = 0
	}
}

// since is the deltas after a number; not ok when some of them are gone, or the
// number was never given out.
func (l *deltaLog) since(after uint64) ([]delta, bool) {
	kept := l.kept[l.head:]
	first := l.last - uint64(len(kept)) // the number before the oldest kept
	if after < first || after > l.last {
		return nil, false
	}
	return append([]delta(nil), kept[after-first:]...), true
}
