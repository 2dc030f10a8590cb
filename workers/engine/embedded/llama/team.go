package llama

import (
	"sync"
	"sync/atomic"
)

// team is a fixed set of threads that work on one phase of a step after the
// other. A phase takes microseconds and a step has hundreds, so members wait for
// the next one by spinning, and only sleep when none comes.
//
// A phase ends when its tasks are done, not when every member has been there.
// On a busy machine a member may have no processor for milliseconds; then the
// others do its share, and nobody waits for it unless it lost its processor in
// the middle of a task.
type team struct {
	work    atomic.Pointer[func(member, task int)]
	ticket  atomic.Uint64 // phase, tasks, next task: see below
	left    atomic.Int64  // tasks of the phase that are not done
	stopped atomic.Bool
	members []member
	serving sync.WaitGroup
}

// The ticket's fields. A task is claimed by swapping the whole ticket, so that
// nobody claims a task of one phase with what it read of another.
const (
	taskBits   = 20
	maxTasks   = 1<<taskBits - 1
	phaseShift = 2 * taskBits
)

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
	t := &team{members: make([]member, size)}
	for i := range t.members {
		t.members[i].wake = make(chan struct{}, 1)
		if i > 0 {
			t.serving.Go(func() { t.serve(i) })
		}
	}
	return t
}

// run does work(member, task) for every task below tasks, on all members (the
// caller is member 0), and returns when all are done. Tasks are handed out in
// order.
func (t *team) run(tasks int, work *func(member, task int)) {
	if tasks <= 1 || len(t.members) == 1 {
		for task := range tasks {
			(*work)(0, task)
		}
		return
	}
	if tasks > maxTasks {
		panic("llama: a phase of too many tasks")
	}
	t.work.Store(work)
	t.left.Store(int64(tasks))
	phase := t.ticket.Load()>>phaseShift + 1
	t.ticket.Store(phase<<phaseShift | uint64(tasks)<<taskBits) // opens the phase
	for i := range t.members[1:] {
		t.members[i+1].rouse()
	}
	t.take(0)
	t.members[0].await(t.done)
}

// take works on the open phase until its tasks are all claimed.
func (t *team) take(member int) {
	for {
		ticket := t.ticket.Load()
		task, open := unclaimed(ticket)
		if !open {
			return
		}
		work := t.work.Load()
		if !t.ticket.CompareAndSwap(ticket, ticket+1) {
			continue
		}
		(*work)(member, task)
		if t.left.Add(-1) == 0 && member != 0 {
			t.members[0].rouse()
		}
	}
}

// unclaimed is the next task of a ticket's phase, if there is one.
func unclaimed(ticket uint64) (task int, open bool) {
	next, tasks := ticket&maxTasks, ticket>>taskBits&maxTasks
	return int(next), next < tasks
}

func (t *team) done() bool { return t.left.Load() == 0 }

func (t *team) serve(id int) {
	wanted := func() bool {
		_, open := unclaimed(t.ticket.Load())
		return open || t.stopped.Load()
	}
	for {
		t.members[id].await(wanted)
		if t.stopped.Load() {
			return
		}
		t.take(id)
	}
}

// stop ends the members and waits for them.
func (t *team) stop() {
	t.stopped.Store(true)
	for i := range t.members[1:] {
		t.members[i+1].rouse()
	}
	t.serving.Wait()
}
