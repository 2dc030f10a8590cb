package llama

import "sync/atomic"

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

// await returns once ready does. Whoever makes it so calls rouse afterwards.
func (m *member) await(ready func() bool) {
	for i := 0; !ready(); i++ {
		if i < spins {
			continue
		}
		m.asleep.Store(true)
		// Who clears the flag owns the wake-up: rouse sends one, and none is
		// needed if we saw the change ourselves.
		if !ready() || !m.asleep.CompareAndSwap(true, false) {
			<-m.wake
		}
	}
}

func (m *member) rouse() {
	if m.asleep.CompareAndSwap(true, false) {
		m.wake <- struct{}{}
	}
}

func newTeam(size int) *team {
	t := &team{size: size, members: make([]member, size)}
	for i := range t.members {
		t.members[i].wake = make(chan struct{}, 1)
		if i > 0 {
			go t.serve(i)
		}
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
	t.enter(2)
	t.take(0)
	t.members[0].await(t.idle)
}

func (t *team) take(member int) {
	for task := int(t.next.Add(1)) - 1; task < t.tasks; task = int(t.next.Add(1)) - 1 {
		t.work(member, task)
	}
}

// enter starts another phase for all members.
func (t *team) enter(step uint64) {
	t.busy.Store(int64(t.size - 1))
	t.phase.Add(step)
	for i := 1; i < t.size; i++ {
		t.members[i].rouse()
	}
}

func (t *team) idle() bool { return t.busy.Load() == 0 }

func (t *team) serve(id int) {
	for seen := uint64(0); seen&1 == 0; {
		t.members[id].await(func() bool { return t.phase.Load() != seen })
		if seen = t.phase.Load(); seen&1 == 0 {
			t.take(id)
		}
		if t.busy.Add(-1) == 0 {
			t.members[0].rouse()
		}
	}
}

// stop ends the members and waits for them.
func (t *team) stop() {
	t.enter(1)
	t.members[0].await(t.idle)
}
