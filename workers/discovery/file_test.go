package discovery

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet collects what a source says.
type fleet struct {
	t       *testing.T
	updates chan []string // ids of each list
	now     []string
}

func newFleet(t *testing.T) *fleet { return &fleet{t: t, updates: make(chan []string, 1000)} }

func (f *fleet) run(s workers.Source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func(infos []workers.Info) {
			ids := []string{}
			for _, i := range infos {
				ids = append(ids, string(i.ID))
			}
			f.updates <- ids
		})
	}()
	stop = func() { cancel(); <-done }
	f.t.Cleanup(stop)
	return stop
}

// is waits until the list is exactly these workers.
func (f *fleet) is(ids ...string) {
	f.t.Helper()
	deadline := time.After(time.Minute)
	for f.now == nil || !slices.Equal(f.now, ids) {
		select {
		case f.now = <-f.updates:
		case <-deadline:
			f.t.Fatalf("the fleet is %v, want %v", f.now, ids)
		}
	}
}

func worker(id string) workers.Info {
	return workers.Info{ID: kv.WorkerID(id), URL: "http://127.0.0.1:1"}
}

func TestStatic(t *testing.T) {
	f := newFleet(t)
	f.run(Static(worker("w0"), worker("w1")))
	f.is("w0", "w1")
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.yaml")
	ticks := make(chan time.Time)
	f := newFleet(t)
	f.run(&file{path: path, log: slog.New(slog.DiscardHandler), ticks: func() (<-chan time.Time, func()) { return ticks, func() {} }})
	tick := func() { // a change is seen, it has settled, and that has been dealt with
		for range 3 {
			ticks <- time.Time{}
		}
	}
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		tick()
	}
	tick() // there is no file yet
	write("- {id: w0, url: 'http://127.0.0.1:8101'}\n")
	f.is("w0")
	write(`[{"id":"w0","url":"http://127.0.0.1:8101"},{"id":"w1","url":"http://127.0.0.1:8102","role":"decode"}]`)
	f.is("w0", "w1")
	write("- {id: w0, url: ")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tick()
	if len(f.updates) != 0 {
		t.Errorf("an unusable file changed the fleet to %v", <-f.updates)
	}
	write("[]\n")
	f.is()
}

func TestParseFile(t *testing.T) {
	infos, err := ParseFile([]byte(`
- id: w0
  model: qwen3
  url: http://127.0.0.1:8101
  engine: vllm
  role: prefill
  block_size: 16
  events: {endpoint: "tcp://127.0.0.1:5557", replay: "tcp://127.0.0.1:5558", topic: ""}
  agent: unix:///run/kvasir/w0.sock
`))
	want := workers.Info{ID: "w0", Model: "qwen3", URL: "http://127.0.0.1:8101", Engine: "vllm", Role: kv.Prefill, BlockSize: 16,
		Events: workers.EventSource{Endpoint: "tcp://127.0.0.1:5557", Replay: "tcp://127.0.0.1:5558"}, Agent: "unix:///run/kvasir/w0.sock"}
	if err != nil || len(infos) != 1 || infos[0] != want {
		t.Errorf("got %+v, %v", infos, err)
	}
	f := func(text, want string) {
		t.Helper()
		if _, err := ParseFile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	f("", "[] for none")
	f("id: w0", "want a list of workers")
	f("- {id: w0}", "want http://host:port")
	f("- {url: 'http://h:1'}", "without an id")
	f("- {id: w0, url: 'http://h:1', rôle: decode}", "unknown field")
	f("- {id: w0, url: 'http://h:1', role: chef}", "unknown role")
	f("- {id: w0, url: 'http://h:1'}\n- {id: w0, url: 'http://h:2'}", "listed twice")
	f("- {id: w0, url: 'http://h:1', block_size: -1}", "block_size")
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("- {id: w0, url: 'http://127.0.0.1:8101'}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		infos, err := ParseFile(content)
		for _, i := range infos {
			if err == nil && i.Validate() != nil {
				t.Fatalf("accepted %+v", i)
			}
		}
	})
}
