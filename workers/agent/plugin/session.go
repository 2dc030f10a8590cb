package plugin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// helloLimit is how long a connection may take to say who it is; writeLimit how
// long one may leave an answer unread.
const (
	helloLimit = 10 * time.Second
	writeLimit = 10 * time.Second
)

// session is one connection. Its messages are handled in their order; only
// stagings are answered when they end.
type session struct {
	s    *Server
	conn *net.UnixConn
	pool *pool

	out sync.Mutex // one message at a time

	mu     sync.Mutex
	stages map[string]*kvbm.Onboarding
	grants map[int]*kvbm.Filling // by slot
}

func newSession(s *Server, c *net.UnixConn) *session {
	return &session{s: s, conn: c, stages: map[string]*kvbm.Onboarding{}, grants: map[int]*kvbm.Filling{}}
}

func (e *session) serve() {
	defer e.end()
	lines := bufio.NewScanner(e.conn)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	_ = e.conn.SetReadDeadline(time.Now().Add(helloLimit))
	for lines.Scan() {
		r, err := parse(lines.Bytes())
		if err == nil {
			err = e.handle(r)
		}
		if err != nil {
			if e.s.ctx.Err() == nil {
				e.s.log.Warn("a plug-in's connection ends", "error", err)
			}
			e.send(answer{Error: err.Error()})
			return
		}
	}
	if err := lines.Err(); err != nil && e.s.ctx.Err() == nil {
		e.s.log.Debug("a plug-in's connection broke", "error", err)
	}
}

func (e *session) handle(r *request) error {
	if (e.pool == nil) != (r.Op == "hello") {
		return fmt.Errorf("%s: hello comes first, and once", r.Op)
	}
	switch r.Op {
	case "hello":
		return e.hello(r)
	case "stage":
		return e.stage(r)
	case "release":
		e.release(r.ID)
	case "loaded":
		bytes := int64(r.Count) * int64(e.pool.manager.BlockBytes())
		e.s.c.Loaded(r.Count, bytes, time.Duration(r.Micros)*time.Microsecond)
	case "reserve":
		e.reserve(r.Count)
	case "commit":
		return e.commit(r)
	case "abort":
		return e.abort(r.Slots)
	}
	return nil
}

// hello answers a worker with the pool's memory first: its geometry, in the
// message that carries the descriptor, is a line of its own.
func (e *session) hello(r *request) error {
	p, err := e.s.enter(r)
	if err != nil {
		return err
	}
	e.pool = p
	_ = e.conn.SetReadDeadline(time.Time{})
	if r.Role == "worker" {
		if err := p.manager.ShareHost(e.conn); err != nil {
			return err
		}
		if _, err := e.conn.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	e.s.log.Info("the engine's plug-in is connected", "role", r.Role, "engine", r.Engine)
	e.send(answer{Hello: &hello{Version: protocol, Model: p.model, BlockSize: p.layout.BlockSize, Pool: p.name}})
	return nil
}

// stage brings a prompt's blocks to the pool, from the first that the engine
// lacks to the last that the router wants restored.
func (e *session) stage(r *request) error {
	m := e.pool.manager
	blocks := kv.Blocks(nil, kv.Hash(r.Root), hashesOf(r.Hashes))
	end := len(blocks)
	if id := gatewayID(r.ID); id != "" {
		if n, ok := e.s.c.Planned(id); ok {
			end = max(r.First, min(end, n))
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stages[r.ID] != nil {
		return fmt.Errorf("stage: %.80q is staged already; release it first", r.ID)
	}
	o := m.Onboard(e.s.ctx, kvbm.OnboardRequest{
		Blocks: blocks[r.First:end], Hold: hold, Deadline: time.Now().Add(stageLimit),
	})
	e.stages[r.ID] = o
	id, seq := r.ID, r.Seq
	e.s.wg.Go(func() {
		slots := o.Slots()
		e.send(answer{Staged: &staged{
			ID: id, Seq: seq, Pool: e.pool.name, Slots: slots, Held: m.Held(blocks), HoldMS: hold.Milliseconds(),
		}})
	})
	return nil
}

// release ends a staging, and with it the gateway's for the same request.
func (e *session) release(id string) {
	e.mu.Lock()
	o := e.stages[id]
	delete(e.stages, id)
	e.mu.Unlock()
	if o == nil {
		return
	}
	o.Release()
	if id := gatewayID(id); id != "" {
		e.pool.manager.Settle(id)
	}
}

// reserve grants as many slots as there is room for, but leaves half of the
// pool to everybody else.
func (e *session) reserve(n int) {
	host := e.pool.manager.Host()
	e.mu.Lock()
	n = min(n, host.Available(), host.Capacity()/2-len(e.grants))
	slots := []int{}
	if n > 0 {
		if fs, err := host.Reserve(n); err == nil {
			for _, f := range fs {
				e.grants[f.Slot()] = f
				slots = append(slots, f.Slot())
			}
		}
	}
	e.mu.Unlock()
	e.send(answer{Granted: &granted{slots}})
}

// take ends the grant of a slot.
func (e *session) take(slot int) (*kvbm.Filling, error) {
	f := e.grants[slot]
	if f == nil {
		return nil, fmt.Errorf("slot %d was not granted to this connection", slot)
	}
	delete(e.grants, slot)
	return f, nil
}

func (e *session) commit(r *request) error {
	hashes, parents := hashesOf(r.Hashes), hashesOf(r.Parents)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, slot := range r.Slots {
		f, err := e.take(slot)
		if err != nil {
			return err
		}
		l, ok := f.Commit(kv.Block{Hash: hashes[i], Parent: parents[i]})
		if !ok { // another request computed the same block
			f.Abort()
			continue
		}
		l.Release()
	}
	return nil
}

func (e *session) abort(slots []int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, slot := range slots {
		f, err := e.take(slot)
		if err != nil {
			return err
		}
		f.Abort()
	}
	return nil
}

// send writes a message. A plug-in that does not read is cut off.
func (e *session) send(a answer) {
	b, err := json.Marshal(a)
	if err != nil {
		return // of these types it does not happen
	}
	e.out.Lock()
	defer e.out.Unlock()
	_ = e.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := e.conn.Write(append(b, '\n')); err != nil {
		e.conn.Close()
	}
}

// end gives back what the connection was granted, when nobody can be writing to
// it any more. What it staged is held as long as was said.
func (e *session) end() {
	e.conn.Close()
	e.mu.Lock()
	empty := len(e.grants) == 0
	e.mu.Unlock()
	if !empty {
		wait := time.NewTimer(quarantine)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-e.s.ctx.Done(): // the pool goes with the agent
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for slot, f := range e.grants {
		f.Abort()
		delete(e.grants, slot)
	}
}
