package llama

import (
	"runtime"
	"sync/atomic"
)

// team is a fixed set of threads that work on one phase of a step after the
// other. A phase takes microseconds and a step has hundreds, so members wait for
// the next one by spinning, and only sleep when none comes.
type team struct {
	size    int
	work    func(member, task int)
	tasks   int
	next    atomic.Int64
	phase   atomic.Uint64 // odd after stop
	busy    atomic.Int64
	members []member
}

type member struct {
	asleep atomic.Bool
	wake   chan struct{}
	_      [48]byte // members' flags on cache lines of their own
}

// spins is how often a member looks for work before it sleeps: some tens of
// microseconds.
const spins = 20000

func newTeam(size int) *team {
	t := &team{size: size, members: make([]member, size)}
	for i := 1; i < size; i++ {
		t.members[i].wake = make(chan struct{}, 1)
		go t.serve(i)
	}
	return t
}

// run does work(member, task) for every task below tasks, on all members (the
// caller is member 0), and returns when all are done. Tasks are handed out in
// order.
func (t *team) run(tasks int, work func(member, task int)) {
	if tasks <= 1 || t.size == 1 {
		for task := range tasks {
			work(0, task)
		}
		return
	}
	t.work, t.tasks = work, tasks
	t.next.Store(0)
	t.busy.Store(int64(t.size - 1))
	t.signal(2)
	t.take(0)
	for i := 0; t.busy.Load() != 0; i++ {
		if i > 1000 {
			runtime.Gosched() // a member lost its processor to another goroutine
		}
	}
}

func (t *team) take(member int) {
	for task := int(t.next.Add(1)) - 1; task < t.tasks; task = int(t.next.Add(1)) - 1 {
		t.work(member, task)
	}
}

// signal moves to another phase and wakes the sleepers.
func (t *team) signal(step uint64) {
	t.phase.Add(step)
	for i := 1; i < t.size; i++ {
		if m := &t.members[i]; m.asleep.CompareAndSwap(true, false) {
			m.wake <- struct{}{}
		}
	}
}

func (t *team) serve(id int) {
	m, seen := &t.members[id], uint64(0)
	for {
		for i := 0; t.phase.Load() == seen; i++ {
			if i < spins {
				continue
			}
			m.asleep.Store(true)
			// Whoever clears the flag owns the wake-up: signal sends one, and we
			// need none if we saw the new phase ourselves.
			if t.phase.Load() == seen || !m.asleep.CompareAndSwap(true, false) {
				<-m.wake
			}
		}
		seen = t.phase.Load()
		if seen&1 == 1 {
			t.busy.Add(-1)
			return
		}
		t.take(id)
		t.busy.Add(-1)
	}
}

// stop ends the members and waits for them.
func (t *team) stop() {
	t.busy.Store(int64(t.size - 1))
	t.signal(1)
	for t.busy.Load() != 0 {
		runtime.Gosched()
	}
}
