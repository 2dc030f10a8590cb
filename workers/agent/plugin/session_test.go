package plugin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

const testBlock = 4096

// agentOf is a server whose manager has 16 slots.
func agentOf(t *testing.T, planned map[string]int) (socket string, loaded chan int) {
	t.Helper()
	socket, loaded = filepath.Join(t.TempDir(), "p"), make(chan int, 8)
	var m *kvbm.Manager
	s, err := Serve(t.Context(), Config{
		Listen: socket, Log: slog.New(slog.DiscardHandler),
		Open: func(l kv.Layout) (_ *kvbm.Manager, err error) {
			m, err = kvbm.Open(t.Context(), kvbm.Config{Layout: l, CPUBytes: 16 * testBlock})
			return m, err
		},
		Planned: func(id string) (int, bool) { n, ok := planned[id]; return n, ok },
		Loaded:  func(blocks int, _ int64, _ time.Duration) { loaded <- blocks },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if m != nil {
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	return socket, loaded
}

// engine is a plug-in's half of a connection.
type engine struct {
	t    *testing.T
	conn *net.UnixConn
	in   *bufio.Scanner
	mem  []byte
}

func dial(t *testing.T, socket string) *engine {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &engine{t: t, conn: c, in: bufio.NewScanner(c)}
}

func (e *engine) say(format string, args ...any) {
	e.t.Helper()
	if _, err := fmt.Fprintf(e.conn, format+"\n", args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) hear() (a answer) {
	e.t.Helper()
	if !e.in.Scan() {
		e.t.Fatalf("the agent hung up: %v", e.in.Err())
	}
	if err := json.Unmarshal(e.in.Bytes(), &a); err != nil {
		e.t.Fatalf("%s: %v", e.in.Bytes(), err)
	}
	return a
}

const workerHello = `{"op":"hello","version":1,"role":"worker","engine":"test","model":"m","layout":{"fingerprint":"%s","dtype":"bf16","layers":1,"block_size":16,"block_bytes":4096}}`

// worker says hello as the part that has the pages, and maps the memory.
func worker(t *testing.T, socket string) *engine {
	t.Helper()
	e := dial(t, socket)
	e.say(workerHello, "f")
	// The geometry comes first; a message with a descriptor is never joined with
	// one before it.
	text, rights := make([]byte, 4096), make([]byte, 128)
	n, k, _, _, err := e.conn.ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:k])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages with %s: %v", len(messages), text[:n], err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	if e.mem, err = unix.Mmap(fds[0], 0, 16*testBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(e.mem) })
	rest, _ := bytes.CutPrefix(text[:n], text[:bytes.IndexByte(text[:n], '}')+1])
	e.in = bufio.NewScanner(bufio.NewReader(&joined{rest, e.conn}))
	for e.in.Scan() && e.in.Text() == "" { // the end of the geometry's line
	}
	var a answer
	if err := json.Unmarshal(e.in.Bytes(), &a); err != nil || a.Hello == nil || a.Hello.Model != "m" || a.Hello.BlockSize != 16 || a.Hello.Pool == "" {
		t.Fatalf("%s: %v", e.in.Bytes(), err)
	}
	return e
}

// joined reads some bytes and then a connection.
type joined struct {
	first []byte
	conn  net.Conn
}

func (j *joined) Read(b []byte) (int, error) {
	if len(j.first) > 0 {
		n := copy(b, j.first)
		j.first = j.first[n:]
		return n, nil
	}
	return j.conn.Read(b)
}

func scheduler(t *testing.T, socket string) *engine {
	t.Helper()
	e := dial(t, socket)
	e.say(`{"op":"hello","version":1,"role":"scheduler"}`)
	if a := e.hear(); a.Hello == nil {
		t.Fatalf("%+v", a)
	}
	return e
}

func (e *engine) slot(i int) []byte { return e.mem[i*testBlock : (i+1)*testBlock] }

// reserve asks until some slots are granted: those of a connection that ended
// come back later.
func (e *engine) reserve(n int) []int {
	e.t.Helper()
	for {
		e.say(`{"op":"reserve","count":%d}`, n)
		if a := e.hear(); a.Granted != nil && len(a.Granted.Slots) > 0 {
			return a.Granted.Slots
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var testRoot = kv.RootSpec{Model: "m", BlockSize: 16}.Hash()

// chainOf names the blocks of a prompt.
func chainOf(prompt byte, n int) (hashes []kv.Hash, packed, parents []byte) {
	tokens := make([]uint32, 16*n)
	for i := range tokens {
		tokens[i] = uint32(prompt)
	}
	hashes = kv.Chain(nil, testRoot, tokens, 16)
	parents = append(parents, testRoot[:]...)
	for _, h := range hashes {
		packed, parents = append(packed, h[:]...), append(parents, h[:]...)
	}
	return hashes, packed, parents[:len(packed)]
}

func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// save stores the first n blocks of a prompt, each full of its number.
func (e *engine) save(prompt byte, n int) {
	e.t.Helper()
	slots := e.reserve(n)
	if len(slots) != n {
		e.t.Fatalf("%d slots for %d blocks", len(slots), n)
	}
	for i, s := range slots {
		copy(e.slot(s), bytes.Repeat([]byte{prompt + byte(i)}, testBlock))
	}
	_, packed, parents := chainOf(prompt, n)
	e.say(`{"op":"commit","slots":%s,"hashes":%s,"parents":%s}`, quoted(slots), quoted(packed), quoted(parents))
}

func (e *engine) stage(id string, prompt byte, n, first int) *staged {
	e.t.Helper()
	_, packed, _ := chainOf(prompt, n)
	e.say(`{"op":"stage","id":%q,"seq":7,"first":%d,"root":%s,"hashes":%s}`, id, first, quoted(testRoot[:]), quoted(packed))
	a := e.hear()
	if a.Staged == nil || a.Staged.ID != id || a.Staged.Seq != 7 {
		e.t.Fatalf("%+v", a)
	}
	return a.Staged
}

// Blocks go down through the shared memory and come up through it, for an engine
// that was restarted too.
func TestBlocksGoDownAndComeBack(t *testing.T) {
	socket, loaded := agentOf(t, map[string]int{"short": 2})
	w := worker(t, socket)
	w.save(10, 4)
	w.reserve(1) // comes after the commit, and is left when the engine dies
	w.conn.Close()

	w, s := worker(t, socket), scheduler(t, socket)
	got := s.stage("a", 10, 6, 1)
	if len(got.Slots) != 3 || got.Held != 4 || got.HoldMS <= 0 {
		t.Fatalf("%+v; want the last three of four blocks", got)
	}
	for i, slot := range got.Slots {
		if w.slot(slot)[0] != byte(11+i) || w.slot(slot)[testBlock-1] != byte(11+i) {
			t.Errorf("block %d is full of %d", i+1, w.slot(slot)[0])
		}
	}
	s.say(`{"op":"release","id":"a"}`)
	w.say(`{"op":"loaded","count":3,"micros":50}`)
	if n := <-loaded; n != 3 {
		t.Errorf("%d blocks were reported as loaded", n)
	}
	if got := s.stage("cmpl-short-0-00000000", 10, 6, 1); len(got.Slots) != 1 {
		t.Errorf("%+v; the router wants two blocks restored, of which the engine has one", got)
	}
	if got := s.stage("b", 99, 6, 0); len(got.Slots) != 0 || got.Held != 0 {
		t.Errorf("%+v of a prompt that was never seen", got)
	}
}

// A staged block stays while it is held, whatever else comes; a connection that
// takes all the slots it can get leaves half of the pool to others.
func TestStagedBlocksStay(t *testing.T) {
	socket, _ := agentOf(t, nil)
	w, s := worker(t, socket), scheduler(t, socket)
	w.save(10, 4)
	w.save(10, 4) // the same again: the slots come back
	held := s.stage("a", 10, 4, 0)
	for i := range 8 {
		w.save(byte(50+10*i), 4)
	}
	for i, slot := range held.Slots {
		if w.slot(slot)[0] != byte(10+i) {
			t.Errorf("block %d was overwritten with %d", i, w.slot(slot)[0])
		}
	}
	if got := w.reserve(16); len(got) != 8 {
		t.Errorf("%d of 16 slots were granted to one connection", len(got))
	}
	w.say(`{"op":"reserve","count":1}`)
	if a := w.hear(); a.Granted == nil || len(a.Granted.Slots) != 0 {
		t.Errorf("%+v beyond half of the pool", a)
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	socket, _ := agentOf(t, nil)
	refused := func(e *engine, want string) {
		t.Helper()
		if a := e.hear(); !strings.Contains(a.Error, want) {
			t.Errorf("got %+v, want an error with %q", a, want)
		}
		if e.in.Scan() {
			t.Errorf("the connection goes on with %s", e.in.Bytes())
		}
	}
	early := dial(t, socket)
	early.say(`{"op":"hello","version":1,"role":"scheduler"}`)
	silent := dial(t, socket)
	silent.say(`{"op":"reserve","count":1}`)
	refused(silent, "hello comes first")

	w := worker(t, socket)
	if a := early.hear(); a.Hello == nil { // it waited for the pages
		t.Errorf("%+v", a)
	}
	other := dial(t, socket)
	other.say(workerHello, "another")
	refused(other, "restart it")

	_, packed, parents := chainOf(1, 1)
	w.say(`{"op":"commit","slots":[3],"hashes":%s,"parents":%s}`, quoted(packed), quoted(parents))
	refused(w, "slot 3 was not granted")
}
