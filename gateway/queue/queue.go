package queue

import (
	"math"
	"slices"
	"time"
)

// Priority is a class of requests. The zero value is Normal.
type Priority int8

// The priorities.
const (
	Low Priority = iota - 1
	Normal
	High
)

// Names are the priorities' names, the lowest first.
var Names = [...]string{"low", "normal", "high"}

func (p Priority) String() string { return Names[p-Low] }

// Parse finds a priority by its name.
func Parse(name string) (p Priority, ok bool) {
	i := slices.Index(Names[:], name)
	return Low + Priority(i), i >= 0
}

// Ticket is one request that waits.
type Ticket struct {
	Priority Priority
	Tenant   string
	Weight   float64 // the tenant's share among others; not above 0: 1
	Cost     float64 // in tokens
	Bytes    int64   // that it holds while it waits
	// Latest is when it is of no use any more to be let in. Zero: never.
	Latest time.Time
	// Owner is whoever waits with the ticket.
	Owner any

	came   time.Time
	number uint64 // in order of arrival
	// As it came: the tokens ahead of it, and those that had gone.
	ahead, gone float64
}

// Queue is what waits for one model.
type Queue struct {
	most      int
	mostBytes int64

	classes [len(Names)]class
	n       int
	bytes   int64
	pushed  uint64
	drain   drain
	gone    float64 // tokens, ever
}

// class is what waits with one priority.
type class struct {
	virtual float64 // the start of the last ticket that went
	flows   map[string]*flow
	cost    float64 // of all that wait
	n       int
}

// flow is one tenant's part of a class.
type flow struct {
	weight  float64
	start   float64 // virtual, of its next ticket
	cost    float64
	waiting []*Ticket
	aim     aim
}

// New is a queue of at most so many tickets, and bytes of them.
func New(most int, bytes int64) *Queue {
	q := &Queue{most: most, mostBytes: bytes}
	for i := range q.classes {
		q.classes[i].flows = map[string]*flow{}
	}
	return q
}

// Len is how many wait.
func (q *Queue) Len() int { return q.n }

// Waiting is how many wait with a priority.
func (q *Queue) Waiting(p Priority) int { return q.classes[p-Low].n }

// Push lets t wait. ok is false when there is no room for it; out are those that
// had to give way.
func (q *Queue) Push(t *Ticket, now time.Time) (out []*Ticket, ok bool) {
	if t.Weight <= 0 {
		t.Weight = 1
	}
	for q.n >= q.most || q.bytes+t.Bytes > q.mostBytes {
		victim := q.victim(t)
		if victim == nil {
			return out, false
		}
		q.Remove(victim)
		out = append(out, victim)
	}
	if q.n == 0 {
		q.drain.begin(now)
	}
	q.pushed++
	t.came, t.number, t.ahead, t.gone = now, q.pushed, q.Ahead(t), q.gone
	c := &q.classes[t.Priority-Low]
	f := c.flows[t.Tenant]
	if f == nil {
		f = &flow{start: c.virtual}
		c.flows[t.Tenant] = f
	}
	if len(f.waiting) == 0 {
		f.start = max(f.start, c.virtual) // being away earns nothing
	}
	f.weight = t.Weight
	f.waiting = append(f.waiting, t)
	f.cost += t.Cost
	q.count(c, t, 1)
	return out, true
}

func (q *Queue) count(c *class, t *Ticket, n int) {
	q.n += n
	q.bytes += int64(n) * t.Bytes
	c.n += n
	if c.cost += float64(n) * t.Cost; c.n == 0 {
		c.cost = 0 // no rounding error outlives the class
	}
}

// Pop takes the next ticket out, nil if none waits.
func (q *Queue) Pop(now time.Time) *Ticket {
	for i := len(q.classes) - 1; i >= 0; i-- {
		c := &q.classes[i]
		if c.n == 0 {
			continue
		}
		f := c.next()
		t := f.waiting[0]
		c.virtual = f.start
		f.start += t.Cost / f.weight
		q.take(c, f, 0)
		if t.came.Before(now) {
			q.drain.served(t.Cost, now)
		}
		f.aim.note(q.gone-t.gone, t.ahead)
		q.gone += t.Cost
		return t
	}
	return nil
}

// next is the flow whose ticket is next. It forgets those that are gone and have
// nothing to pay back.
func (c *class) next() (best *flow) {
	for tenant, f := range c.flows {
		switch {
		case len(f.waiting) == 0:
			if f.start <= c.virtual {
				delete(c.flows, tenant)
			}
		case best == nil, f.start < best.start, f.start == best.start && f.waiting[0].number < best.waiting[0].number:
			best = f
		}
	}
	return best
}

// take takes the i-th ticket out of a flow.
func (q *Queue) take(c *class, f *flow, i int) {
	t := f.waiting[i]
	if f.waiting = slices.Delete(f.waiting, i, i+1); len(f.waiting) == 0 {
		f.cost = 0
	} else {
		f.cost -= t.Cost
	}
	q.count(c, t, -1)
}

// Remove takes a ticket out wherever it stands, and reports whether it waited.
func (q *Queue) Remove(t *Ticket) bool {
	c := &q.classes[t.Priority-Low]
	f := c.flows[t.Tenant]
	if f == nil {
		return false
	}
	i := slices.Index(f.waiting, t)
	if i < 0 {
		return false
	}
	q.take(c, f, i)
	return true
}

// Expired takes out those whose Latest has passed.
func (q *Queue) Expired(now time.Time) (out []*Ticket) {
	for i := range q.classes {
		c := &q.classes[i]
		for _, f := range c.flows {
			for k := len(f.waiting) - 1; k >= 0; k-- {
				if t := f.waiting[k]; !t.Latest.IsZero() && now.After(t.Latest) {
					q.take(c, f, k)
					if went := q.gone - t.gone; went > t.ahead {
						f.aim.note(went, t.ahead) // and more would have
					}
					out = append(out, t)
				}
			}
		}
	}
	return out
}

// victim is the ticket that gives way to t in a full queue; nil: t has no better
// claim than those that wait.
func (q *Queue) victim(t *Ticket) *Ticket {
	for i := range q.classes {
		c := &q.classes[i]
		if c.n == 0 {
			continue
		}
		longest := c.longest()
		switch p := Low + Priority(i); {
		case p < t.Priority:
		case p > t.Priority:
			return nil
		default:
			own := t.Cost
			if f := c.flows[t.Tenant]; f != nil {
				own += f.cost
			}
			if longest.cost/longest.weight <= own/t.Weight {
				return nil
			}
		}
		return longest.waiting[len(longest.waiting)-1]
	}
	return nil
}

// longest is the flow with most tokens waiting for its weight; of equals the one
// whose last ticket came last.
func (c *class) longest() (most *flow) {
	for _, f := range c.flows {
		if len(f.waiting) == 0 {
			continue
		}
		if most == nil || f.cost/f.weight > most.cost/most.weight ||
			f.cost/f.weight == most.cost/most.weight && f.waiting[len(f.waiting)-1].number > most.waiting[len(most.waiting)-1].number {
			most = f
		}
	}
	return most
}

// Ahead is how many tokens would go before t if it came now: those of higher
// priorities, its tenant's own, and what the others of its priority are due
// until its turn.
func (q *Queue) Ahead(t *Ticket) (cost float64) {
	for i := len(q.classes) - 1; i > int(t.Priority-Low); i-- {
		cost += q.classes[i].cost
	}
	c := &q.classes[t.Priority-Low]
	turn := c.virtual
	own := c.flows[t.Tenant]
	if own != nil {
		turn = max(turn, own.start) + own.cost/max(t.Weight, 1e-9)
		cost += own.cost
	}
	for _, f := range c.flows {
		if f != own && len(f.waiting) > 0 && f.start <= turn {
			// At least the ticket that is due first: tickets are not split.
			cost += min(f.cost, max(f.waiting[0].Cost, (turn-f.start)*f.weight))
		}
	}
	return cost
}

// Wait predicts how long t would wait if it came now. guess is what is assumed
// of the tokens let in a second until that has been seen.
func (q *Queue) Wait(t *Ticket, now time.Time, guess float64) time.Duration {
	ahead := q.Ahead(t)
	if ahead == 0 {
		return 0
	}
	usual := 0.0
	for i := range q.classes {
		usual += q.classes[i].cost / float64(q.n)
	}
	if f := q.classes[t.Priority-Low].flows[t.Tenant]; f != nil {
		ahead *= f.aim.off(usual)
	}
	seconds := ahead / max(q.drain.rate(now, guess, usual), 1e-9)
	return time.Duration(min(seconds*float64(time.Second), math.MaxInt64/2))
}
