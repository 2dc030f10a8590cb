package workers_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// handClock is a clock that a test moves.
type handClock struct {
	start time.Time
	ahead atomic.Int64
}

func (c *handClock) now() time.Time       { return c.start.Add(time.Duration(c.ahead.Load())) }
func (c *handClock) move(d time.Duration) { c.ahead.Add(int64(d)) }

var errBad = errors.New("status 500")

// peers is a fleet of n workers that have all answered ten requests.
func peers(t *testing.T, n int, change func(*workers.FleetConfig)) ([]*workers.Worker, *handClock) {
	clock := &handClock{start: time.Now()}
	f, s := startFleet(t, newIndex(t), func(c *workers.FleetConfig) {
		c.Now = clock.now
		c.StatsInterval = time.Hour
		if change != nil {
			change(c)
		}
	})
	var infos []workers.Info
	for i := range n {
		infos = append(infos, workers.Info{ID: kv.WorkerID(fmt.Sprint("w", i)), URL: startEngine(t).url()})
	}
	s <- infos
	var ws []*workers.Worker
	for i := range n {
		w := ready(t, f, kv.WorkerID(fmt.Sprint("w", i)))
		for range 10 {
			w.ReportSuccess()
		}
		ws = append(ws, w)
	}
	return ws, clock
}

// misbehaves has a worker fail every second of so many requests: never three in
// a row, so only its peers show that something is wrong.
func misbehaves(w *workers.Worker, times int) {
	for range times {
		w.ReportFailure(errBad)
		w.ReportSuccess()
	}
}

func wantState(t *testing.T, w *workers.Worker, state string) {
	t.Helper()
	if w.State() != state || w.Ready() != (state == "ready" || state == "half-open") {
		t.Fatalf("%s is %s, ready %v; want %s", w.ID(), w.State(), w.Ready(), state)
	}
}

// A worker that fails where its peers do not is out for 5 s, is tried with one
// request, is out for longer if that fails, and back if it does not.
func TestAnOutlierIsEjected(t *testing.T) {
	ws, clock := peers(t, 3, nil)
	bad := ws[0]
	misbehaves(bad, 12)
	wantState(t, bad, "ejected")
	wantState(t, ws[1], "ready")
	clock.move(4 * time.Second)
	wantState(t, bad, "ejected")
	bad.ReportSuccess() // of before
	wantState(t, bad, "ejected")

	clock.move(2 * time.Second)
	wantState(t, bad, "half-open")
	bad.ReportSent()
	if bad.Ready() {
		t.Fatal("a second request before it is known how the first went")
	}
	bad.ReportFailure(errBad)
	wantState(t, bad, "ejected")
	clock.move(6 * time.Second)
	wantState(t, bad, "ejected") // 10 s this time
	clock.move(5 * time.Second)
	bad.ReportSent()
	// The client leaves: nothing is known. Another request is tried in time.
	clock.move(31 * time.Second)
	wantState(t, bad, "half-open")
	bad.ReportSent()
	bad.ReportSuccess()
	wantState(t, bad, "ready")
}

// Answers far later than predicted count as failures do.
func TestALateWorkerIsEjected(t *testing.T) {
	ws, _ := peers(t, 2, nil)
	for range 10 {
		ws[1].ReportSuccess()
		ws[1].ReportLate()
	}
	wantState(t, ws[1], "ejected")
}

// When all do badly nobody is an outlier: it is the requests, or the load.
func TestNobodyIsEjectedWhenAllFail(t *testing.T) {
	ws, _ := peers(t, 4, nil)
	for range 20 {
		for _, w := range ws {
			misbehaves(w, 1)
		}
	}
	for _, w := range ws {
		wantState(t, w, "ready")
	}
}

func TestOnlyAShareIsEjected(t *testing.T) {
	ws, _ := peers(t, 5, nil)
	out := 0
	for _, w := range ws {
		misbehaves(w, 12)
		if w.State() == "ejected" {
			out++
		}
	}
	if out != 2 {
		t.Errorf("%d of 5 are ejected", out)
	}
	alone, _ := peers(t, 1, nil)
	misbehaves(alone[0], 12)
	wantState(t, alone[0], "ready")
	never, _ := peers(t, 3, func(c *workers.FleetConfig) { c.EjectShare = -1 })
	misbehaves(never[0], 12)
	wantState(t, never[0], "ready")
}
