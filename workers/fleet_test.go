package workers_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/workers"
)

// A stock engine, nothing but its URL known.
func TestAWorkerKnownByItsURLAlone(t *testing.T) {
	e := startEngine(t)
	x := newIndex(t)
	f, s := startFleet(t, x, nil)
	e.prompt(1, 2, 3, 4) // before anybody listened
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")
	if i := w.Info(); i.Model != "tiny" || i.BlockSize != blockSize {
		t.Errorf("described as %+v", i)
	}
	e.prompt(1, 2, 9, 9)
	trial.Await(t, "the blocks", func() bool { return x.of("w0").equal(e.holds()) })
	trial.Await(t, "the load", func() bool { return w.Stats().Running == 3 })
	if st := w.Stats(); st.KVUsage != -1 || st.GPUBlocks != 40 || st.At.IsZero() {
		t.Errorf("stats %+v", st)
	}
	if _, err := w.Onboard(t.Context(), "r", root, nil, nil, time.Time{}); !errors.Is(err, workers.ErrNoAgent) {
		t.Errorf("onboarding without an agent: %v", err)
	}

	e.kill()
	trial.Await(t, "the death to be noticed", func() bool { return !w.Ready() && w.State() == "unhealthy" })
	e.restart()
	e.prompt(5, 6)
	trial.Await(t, "the new engine", func() bool { return w.Ready() && x.of("w0").equal(e.holds()) })
}

func TestADispatchersFailureTakesAWorkerOutAtOnce(t *testing.T) {
	e := startEngine(t)
	x := newIndex(t)
	f, s := startFleet(t, x, func(c *workers.FleetConfig) { c.HealthInterval = time.Hour })
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")

	// One strange failure is no proof, nor are two with a success in between.
	w.ReportFailure(context.DeadlineExceeded)
	w.ReportFailure(context.DeadlineExceeded)
	w.ReportSuccess()
	w.ReportFailure(context.DeadlineExceeded)
	if !w.Ready() {
		t.Fatal("out of service without proof")
	}
	e.kill()
	w.ReportFailure(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	if w.Ready() {
		t.Fatal("still in service after a refused connection")
	}
	e.restart()
	trial.Await(t, "the worker to be back", w.Ready) // by a probe, although the interval is long

	e.kill()
	for range 3 {
		w.ReportFailure(errors.New("status 500"))
	}
	if w.Ready() {
		t.Error("still in service after three failures in a row")
	}
	e.restart()
	trial.Await(t, "the worker to be back again", w.Ready)
}

// A probe that was under way when a dispatcher saw the engine fail proves
// nothing; the next one does.
func TestAnOldProbeDoesNotOverruleAFailure(t *testing.T) {
	e := startEngine(t)
	f, s := startFleet(t, newIndex(t), nil)
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")
	gate := make(chan struct{})
	e.healthGate.Store(&gate)
	trial.Await(t, "a probe under way", func() bool { return e.gated.Load() == 1 })
	w.ReportFailure(syscall.ECONNREFUSED)
	next := make(chan struct{})
	e.healthGate.Store(&next)
	close(gate)
	trial.Await(t, "the probe after it", func() bool { return e.gated.Load() == 2 })
	if w.Ready() {
		t.Error("back in service by a probe from before the failure")
	}
	close(next)
	trial.Await(t, "the worker to be back", w.Ready)
}

func TestAWorkerThatVanishesFromDiscovery(t *testing.T) {
	e, gone := startEngine(t), startEngine(t)
	x := newIndex(t)
	f, s := startFleet(t, x, func(c *workers.FleetConfig) { c.Grace = 500 * time.Millisecond })
	both := []workers.Info{{ID: "w0", URL: e.url()}, {ID: "w1", URL: gone.url()}, {ID: "bad"}}
	s <- both
	w0, w1 := ready(t, f, "w0"), ready(t, f, "w1")
	e.prompt(1, 2)
	trial.Await(t, "the blocks", func() bool { return x.of("w0").equal(e.holds()) })

	// It comes back within the grace time: nothing happened.
	s <- nil
	s <- both
	if f.Worker("w0") != w0 || !w0.Ready() || x.count("w0", kv.GPU) != 1 {
		t.Error("a short absence from discovery was felt")
	}
	// One that does not answer goes at once, one that does when its time is over.
	gone.kill()
	trial.Await(t, "the death to be noticed", func() bool { return !w1.Ready() })
	s <- nil
	trial.Await(t, "the dead worker to leave", func() bool { return f.Worker("w1") == nil })
	if f.Worker("w0") == nil {
		t.Error("a worker that answers left with its discovery")
	}
	trial.Await(t, "the grace time", func() bool { return f.Worker("w0") == nil && w0.State() == "left" && !w0.Ready() })
	if x.count("w0", kv.GPU) != -1 {
		t.Error("the index knows a worker that left")
	}
}

func TestAWorkerThatMovesIsStartedAnew(t *testing.T) {
	e, other := startEngine(t), startEngine(t)
	x := newIndex(t)
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")
	e.prompt(1, 2)
	other.prompt(3, 4)
	trial.Await(t, "the blocks", func() bool { return x.of("w0").equal(e.holds()) })
	s <- []workers.Info{{ID: "w0", URL: other.url()}}
	trial.Await(t, "the new address", func() bool {
		return f.Worker("w0") != w && x.count("w0", kv.GPU) >= 0 && x.of("w0").equal(other.holds())
	})
}

func TestASilentWorkerRaisesTheAlarm(t *testing.T) {
	e := startEngine(t)
	e.noEvents.Store(true)
	x := newIndex(t)
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")
	trial.Await(t, "stats", func() bool { return !w.Stats().At.IsZero() })
	if w.Silent() {
		t.Error("silent before it computed anything")
	}
	e.queries.Add(1000)
	trial.Await(t, "the alarm", w.Silent)
}

func TestWorkersOfSeveralSources(t *testing.T) {
	e := startEngine(t)
	x := newIndex(t)
	second := make(source)
	f, s := startFleet(t, x, func(c *workers.FleetConfig) { c.Sources = append(c.Sources, second) })
	s <- []workers.Info{{ID: "w0", URL: e.url(), Model: "first"}}
	second <- []workers.Info{{ID: "w0", URL: e.url(), Model: "second"}, {ID: "w1", URL: e.url()}}
	ready(t, f, "w1")
	if m := ready(t, f, "w0").Info().Model; m != "first" {
		t.Errorf("the later source won: %s", m)
	}
	ids := []kv.WorkerID{}
	for _, w := range f.Workers() {
		ids = append(ids, w.ID())
	}
	if len(ids) != 2 || ids[0] != "w0" || ids[1] != "w1" {
		t.Errorf("workers %v", ids)
	}
}

func TestMetrics(t *testing.T) {
	e := startEngine(t)
	x := newIndex(t)
	reg := prometheus.NewPedanticRegistry()
	f, s := startFleet(t, x, func(c *workers.FleetConfig) { c.Registerer = reg })
	s <- []workers.Info{{ID: "w0", URL: e.url()}}
	w := ready(t, f, "w0")
	e.prompt(1, 2)
	trial.Await(t, "the event", func() bool { return x.count("w0", kv.GPU) == 1 && w.Stats().Running == 3 })
	value := func(name string) float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == name {
				m := family.GetMetric()[0]
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return -1
	}
	for name, want := range map[string]float64{
		"kvasir_worker_ready":            1,
		"kvasir_worker_info":             1,
		"kvasir_worker_requests_running": 3,
		"kvasir_events_connected":        1,
		"kvasir_events_applied_total":    1,
		"kvasir_events_lost_total":       0,
	} {
		trial.Await(t, name, func() bool { return value(name) == want })
	}
}
