package agent

import (
	"context"
	"encoding/binary"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// serve runs an agent without a manager, for an engine without events.
func serve(t *testing.T, c Config) (*Agent, *grpc.ClientConn) {
	t.Helper()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/models":
			w.Write([]byte(`{"data":[{"id":"tiny"}]}`))
		case "/metrics":
			w.Write([]byte("vllm:cache_config_info{block_size=\"16\"} 1\nvllm:num_requests_waiting 2\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(engine.Close)
	c.Info = workers.Info{ID: "w0", URL: engine.URL}
	if c.Listen == "" {
		c.Listen = "unix://" + filepath.Join(t.TempDir(), "a.sock")
	}
	a, err := Serve(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	conn, err := grpc.NewClient(a.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return a, conn
}

func TestAnAgentWithoutAManager(t *testing.T) {
	a, conn := serve(t, Config{Version: "test"})
	rpc := agentpb.NewAgentClient(conn)
	d, err := rpc.Describe(t.Context(), &agentpb.DescribeRequest{})
	if err != nil || d.GetModel() != "tiny" || d.GetBlockSize() != 16 || d.GetRole() != "aggregated" || d.GetVersion() != "test" {
		t.Errorf("described as %v, %v", d, err)
	}
	if _, err := rpc.Onboard(t.Context(), &agentpb.OnboardRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("onboarding: %v", err)
	}
	stats, err := rpc.WatchStats(t.Context(), &agentpb.WatchStatsRequest{IntervalMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m, err := stats.Recv()
		if err != nil || m.GetEngine().GetWaiting() != 2 || m.GetEngine().KvUsage != nil || len(m.GetTiers()) != 0 {
			t.Errorf("stats %v, %v", m, err)
		}
	}
	h, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", h, err)
	}
	a.Close()
	trial.Await(t, "the stream to end with the agent", func() bool { _, err := stats.Recv(); return err != nil })
}

// blocksFrom makes an event of n blocks that nobody else has.
func blocksFrom(first, n int) kv.Event {
	e := kv.Event{Kind: kv.Stored, Tier: kv.CPU}
	for i := range n {
		var h kv.Hash
		binary.BigEndian.PutUint64(h[:], uint64(first+i+1))
		e.Hashes = append(e.Hashes, h)
	}
	return e
}

func TestASnapshotTravelsInPartsOfBoundedSize(t *testing.T) {
	a, conn := serve(t, Config{})
	const blocks = 3*messageBlocks + 5
	a.hub.in.put(fromManager, []kv.Event{blocksFrom(0, blocks)})
	trial.Await(t, "the hub", func() bool { return a.hub.blocks() == blocks })
	stream, err := agentpb.NewAgentClient(conn).WatchBlocks(t.Context(), &agentpb.WatchBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	x := newIndex()
	for parts := 1; ; parts++ {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range m.GetEvents() {
			e, err := b.ToEvent()
			if err != nil {
				t.Fatal(err)
			}
			x.apply(t, []kv.Event{e})
		}
		if m.GetPart() == agentpb.WatchBlocksResponse_PART_SNAPSHOT_END {
			if parts != 4 || m.GetLastSeq() != 1 || m.GetEpoch() != a.hub.epoch {
				t.Errorf("part %d ends the snapshot at %d", parts, m.GetLastSeq())
			}
			break
		}
	}
	want := blocksFrom(0, blocks)
	if len(x[kv.CPU]) != blocks || x[kv.CPU][want.Hashes[messageBlocks]] != want.Hashes[messageBlocks-1] {
		t.Errorf("%d blocks arrived, want %d in one chain", len(x[kv.CPU]), blocks)
	}
}

// A watcher that reads nothing holds nobody up, and is cut.
func TestASlowWatcherIsCut(t *testing.T) {
	a, conn := serve(t, Config{LogBlocks: 10_000})
	rpc := agentpb.NewAgentClient(conn)
	slow, err := rpc.WatchBlocks(t.Context(), &agentpb.WatchBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := slow.Recv() // it has the empty snapshot and then stops reading
	if err != nil || first.GetPart() != agentpb.WatchBlocksResponse_PART_SNAPSHOT_END {
		t.Fatalf("%v, %v", first, err)
	}
	const rounds, each = 60, 2_000
	for i := range rounds {
		a.hub.in.put(fromManager, []kv.Event{blocksFrom(i*each, each)})
		trial.Await(t, "the hub", func() bool { return a.hub.blocks() == (i+1)*each })
	}
	last := uint64(0)
	for err == nil {
		var m *agentpb.WatchBlocksResponse
		if m, err = slow.Recv(); err == nil {
			last = m.GetLastSeq()
		}
	}
	if status.Code(err) != codes.Aborted || last == rounds {
		t.Fatalf("after delta %d of %d: %v", last, rounds, err)
	}
	// What it has is gone from the log, so it gets a snapshot.
	again, err := rpc.WatchBlocks(t.Context(), &agentpb.WatchBlocksRequest{Epoch: a.hub.epoch, AfterSeq: last})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := again.Recv(); err != nil || m.GetPart() != agentpb.WatchBlocksResponse_PART_SNAPSHOT {
		t.Errorf("it came back to %v, %v", m.GetPart(), err)
	}
	// One that has nearly all gets deltas alone.
	recent, err := rpc.WatchBlocks(t.Context(), &agentpb.WatchBlocksRequest{Epoch: a.hub.epoch, AfterSeq: rounds - 1})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := recent.Recv(); err != nil || m.GetPart() != agentpb.WatchBlocksResponse_PART_DELTA || m.GetFirstSeq() != rounds {
		t.Errorf("one with a recent number got %v, %v", m.GetPart(), err)
	}
}

func TestUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Mode()&fs.ModeSocket == 0 {
		t.Errorf("made %v, %v", fi.Mode(), err)
	}
	if l2, err := listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "another agent") {
		l2.Close()
		t.Errorf("took a socket over: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}

	// A process that was killed leaves its file behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	l, err = listen("unix:" + path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if _, err := listen(""); err == nil {
		t.Error("no address was accepted")
	}
}

func TestServeRefusesABadWorker(t *testing.T) {
	if _, err := Serve(context.Background(), Config{Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a worker without an id was accepted")
	}
}
