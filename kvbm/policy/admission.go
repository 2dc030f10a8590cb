package policy

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const day = 24 * time.Hour

// Admission keeps what is written to a device within its endurance: a token
// bucket of bytes. While the bucket is more than half full every block may be
// written; below that, only one that is offered for the second time, because it
// was used again since; and none when it is empty. On the conversation trace the
// second rule writes a quarter as much and keeps two thirds of the hits, so it is
// worth having when writes are short, and only then.
//
// In any time d no more than a bucket and d's share of a day are written.
type Admission struct {
	perSecond float64 // 0: no limit
	bucket    float64
	level     float64
	at        time.Time
	once      ghosts
	memory    int
}

// NewAdmission allows perDay bytes a day, 0 for no limit, and remembers that many
// blocks that it turned away. The bucket begins full, with an hour's share, but
// no less than a few blocks.
func NewAdmission(perDay int64, blockBytes, memory int) Admission {
	perSecond := float64(perDay) / day.Seconds()
	bucket := max(perSecond*time.Hour.Seconds(), 4*float64(blockBytes))
	return Admission{perSecond: perSecond, bucket: bucket, level: bucket, memory: memory}
}

// Admit reports whether a block may be written now, and takes its bytes from the
// bucket if so.
func (a *Admission) Admit(h kv.Hash, bytes int, now time.Time) bool {
	if a.perSecond == 0 {
		return true
	}
	a.fill(now)
	again := a.once.remove(h)
	if a.level >= float64(bytes) && (again || a.level > a.bucket/2) {
		a.level -= float64(bytes)
		return true
	}
	a.once.add(h)
	for a.once.len() > a.memory {
		a.once.forget()
	}
	return false
}

// TurnedAway reports whether the block was offered once and not written.
func (a *Admission) TurnedAway(h kv.Hash) bool { return a.once.has(h) }

// Left is how many bytes may be written now; -1 without a limit.
func (a *Admission) Left(now time.Time) int64 {
	if a.perSecond == 0 {
		return -1
	}
	a.fill(now)
	return int64(a.level)
}

func (a *Admission) fill(now time.Time) {
	if passed := now.Sub(a.at); !a.at.IsZero() && passed > 0 {
		a.level = min(a.bucket, a.level+passed.Seconds()*a.perSecond)
	}
	if now.After(a.at) {
		a.at = now
	}
}
