package sim

// eventKind says what happens next.
type eventKind uint8

const (
	arrival   eventKind = iota // of the trace's next request
	stepEnd                    // of an engine
	restored                   // the blocks a request waits for are there
	offloaded                  // blocks reached a lower tier
	change                     // a worker joins or leaves
)

type event struct {
	at     instant
	order  uint64 // of those at the same time, the first made is the first to happen
	kind   eventKind
	engine *engine
	run    int // stepEnd: the engine's run that it ends
	what   any
}

// agenda is a heap of events by time.
type agenda struct {
	events []event
	made   uint64
}

func (a *agenda) add(e event) {
	a.made++
	e.order = a.made
	a.events = append(a.events, e)
	i := len(a.events) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !a.events[i].before(&a.events[up]) {
			break
		}
		a.events[i], a.events[up] = a.events[up], a.events[i]
		i = up
	}
}

func (a *agenda) next() (event, bool) {
	if len(a.events) == 0 {
		return event{}, false
	}
	first := a.events[0]
	n := len(a.events) - 1
	a.events[0] = a.events[n]
	a.events[n] = event{}
	a.events = a.events[:n]
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < n; c++ {
			if a.events[c].before(&a.events[least]) {
				least = c
			}
		}
		if least == i {
			return first, true
		}
		a.events[i], a.events[least] = a.events[least], a.events[i]
		i = least
	}
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.order < o.order
}
