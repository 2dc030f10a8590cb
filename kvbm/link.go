package kvbm

import (
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// One copy at a time per direction between memories: a copy engine, or a
	// core, is not faster for being shared. One call moves several blocks, because
	// taking turns costs as much as a small block, but not so many that what comes
	// next has to wait long.
	memoryWorkers = 1
	memoryCall    = 8 << 20
	// Transfers in flight that keep a disk busy, per device and direction.
	diskWorkers = 4
	// Connections of each direction.
	redisWorkers = 4
	// offloadBytes may wait for a link, but offloadBlocks may in any case.
	offloadBytes  = 256 << 20
	offloadBlocks = 64
)

// outcome is how a job ended. Each job has exactly one.
type outcome uint8

const (
	moved     outcome = iota // the block is in the new tier through this job
	present                  // it was there already, or another job brings it
	missed                   // the source does not have it, or the target has no room
	cancelled                // nobody wants it any more
	dropped                  // offload only: no room, no source or no store
	declined                 // offload only: the write budget spared it
	failed                   // an I/O error or a checksum that does not match
	numOutcomes
)

// job is one block on one link.
type job struct {
	policy.Item[*job]
	block   kv.Block
	src     *Lease  // held from queueing to the end, for offloads from cpu and loads to gpu
	flight  *flight // nil for an offload
	peer    *remote // where the block is, on the way up from a peer
	running bool
}

// link moves blocks from one tier to another.
type link struct {
	m        *Manager
	from, to kv.Tier
	workers  int
	// call is how many blocks may be moved in one call now, at least 1.
	call func() int
	// move does jobs of one priority and settles each. It is called with mu held
	// and gives it up during I/O.
	move func([]*job)
	// store is what may fail at the lower end; nil between memories.
	store store
	// opposite is the other direction of the same store, if it has one.
	opposite *link
	queue    *policy.Queue[*job]
	pending  map[kv.Hash]*job // offloads queued or running
	ready    *sync.Cond
	running  map[policy.Priority]int
	// stuck jobs run and wait for a host slot, which offloads may have to free.
	stuck   int
	rate    policy.Rate
	offered uint64
	ended   [numOutcomes]uint64
	bytes   uint64
	catchUp catchUp
}

// store is the lower end of a link as the link sees it.
type store interface {
	// usable reports whether it is worth trying now.
	usable(now time.Time) bool
	// up reports whether it is thought to work.
	up() bool
}

func (m *Manager) startLinks() {
	add := func(l *link) *link {
		l.m = m
		l.queue = policy.NewQueue[*job](m.offloadBudget())
		l.pending = make(map[kv.Hash]*job)
		l.ready = sync.NewCond(&m.mu)
		l.running = make(map[policy.Priority]int)
		m.links = append(m.links, l)
		return l
	}
	if m.gpu != nil && m.cpu != nil {
		down := add(&link{from: kv.GPU, to: kv.CPU, workers: memoryWorkers, call: m.saveRoom})
		down.move = func(js []*job) { m.saveToHost(down, js) }
		up := add(&link{from: kv.CPU, to: kv.GPU, workers: memoryWorkers, call: m.callBlocks})
		up.move = func(js []*job) { m.loadToGPU(up, js) }
	}
	pair := func(t kv.Tier, workers int, write, read store, save, load func(*link, *job) outcome) {
		down := add(&link{from: kv.CPU, to: t, workers: workers, call: oneBlock, store: write})
		up := add(&link{from: t, to: kv.CPU, workers: workers, call: oneBlock, store: read})
		down.opposite, up.opposite = up, down
		down.move = func(js []*job) { down.settle(js[0], save(down, js[0])) }
		up.move = func(js []*job) { up.settle(js[0], load(up, js[0])) }
	}
	if d := m.disk; d != nil {
		pair(kv.Disk, diskWorkers*len(d.devices), diskSide{d, writing}, diskSide{d, reading}, m.saveToDisk, m.loadFromDisk)
	}
	if r := m.redis; r != nil {
		pair(kv.Redis, redisWorkers, redisSide{r, writing}, redisSide{r, reading}, m.saveToRedis, m.loadFromRedis)
	}
	if m.peers != nil {
		up := add(&link{from: kv.Peer, to: kv.CPU, workers: peerWorkers, call: m.peerBlocks, store: m.peers})
		up.move = func(js []*job) { m.loadFromPeers(up, js) }
	}
	for _, l := range m.links {
		for range l.workers {
			m.wg.Go(l.work)
		}
	}
}

func oneBlock() int { return 1 }

// callBlocks is how many blocks one call between memories moves.
func (m *Manager) callBlocks() int { return max(1, memoryCall/m.blockBytes) }

func (m *Manager) offloadBudget() int64 { return max(offloadBytes, offloadBlocks*int64(m.blockBytes)) }

func (m *Manager) link(from, to kv.Tier) *link {
	for _, l := range m.links {
		if l.from == from && l.to == to {
			return l
		}
	}
	return nil
}

func (l *link) work() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	var jobs []*job
	for {
		jobs = l.next(jobs[:0])
		switch {
		case len(jobs) > 0:
			l.move(jobs)
		case l.m.stopped:
			return
		default:
			l.ready.Wait()
		}
	}
}

// next takes the jobs of one call off the queue: the most urgent one, and as
// many of the same priority behind it as the call may hold.
func (l *link) next(jobs []*job) []*job {
	for room := l.call(); len(jobs) < max(1, room); {
		it, ok := l.queue.Next()
		if !ok || len(jobs) > 0 && it.Priority() != jobs[0].Priority() || !l.mayStart(it.Priority()) {
			break
		}
		l.queue.Remove(it)
		it.Value.running = true
		l.running[it.Priority()]++
		jobs = append(jobs, it.Value)
	}
	if len(jobs) > 0 {
		l.yield()
	}
	return jobs
}

// yield tells the offloads of the opposite direction, if any wait, that it may be
// their turn.
func (l *link) yield() {
	if o := l.opposite; o != nil && o.queue.Len() > 0 {
		o.ready.Broadcast()
	}
}

// mayStart holds offloads back for demand loads of the same store: none begins
// while one waits for its turn, and beside those that run, one at most. So an
// offload delays a demand load by no more than the call it is in. Loads that wait
// for a host slot do not count: it may be an offload that has to free it.
func (l *link) mayStart(p policy.Priority) bool {
	o := l.opposite
	if p != policy.Offload || o == nil || o.stuck > 0 || l.m.closing {
		return true
	}
	if o.queue.Waiting(policy.Demand) > 0 {
		return false
	}
	return o.running[policy.Demand] == 0 || l.running[policy.Offload] == 0
}

// push queues a job; false when it was dropped for lack of budget.
func (l *link) push(j *job, p policy.Priority) bool {
	l.offered++
	j.Item.Value, j.Item.Bytes = j, int64(l.m.blockBytes)
	if l.m.stopped || !l.queue.Push(&j.Item, p) {
		l.settle(j, dropped)
		return false
	}
	l.ready.Signal()
	return true
}

// settle closes a job's books.
func (l *link) settle(j *job, how outcome) {
	if j.running {
		j.running = false
		l.running[j.Priority()]--
		l.yield()
	}
	l.count(how)
	if l.pending[j.block.Hash] == j {
		delete(l.pending, j.block.Hash)
	}
	if j.src != nil {
		j.src.release()
		if j.flight == nil {
			l.m.offloadLeases--
		}
		l.m.room.Broadcast()
	}
	if j.flight != nil {
		j.flight.legEnded(how)
	}
	l.m.idle.Broadcast()
}

// count books an outcome.
func (l *link) count(how outcome) {
	l.ended[how]++
	switch how {
	case moved:
		l.bytes += uint64(l.m.blockBytes)
	case dropped, failed:
		l.catchUp.due = l.from == kv.CPU && l.store != nil
	}
}

// abandon empties the queue and sends the workers home.
func (l *link) abandon() {
	for it, ok := l.queue.Pop(); ok; it, ok = l.queue.Pop() {
		if it.Value.flight == nil {
			l.settle(it.Value, dropped)
		} else {
			l.settle(it.Value, cancelled)
		}
	}
	l.ready.Broadcast()
}

func (l *link) busy() bool {
	n := l.queue.Len()
	for _, r := range l.running {
		n += r
	}
	return n > 0
}

// timed runs a call that moves the given number of blocks without the lock, and
// measures it. The link's rate learns only from calls that moved them.
func (l *link) timed(blocks int, call func() error) error {
	start := l.m.now()
	l.rate.Start(start)
	l.m.mu.Unlock()
	err := call()
	l.m.mu.Lock()
	now := l.m.now()
	if err != nil {
		l.rate.Cancel(now)
	} else {
		l.rate.Finish(now, int64(blocks)*int64(l.m.blockBytes), now.Sub(start))
	}
	return err
}

const (
	// loadPatience is how long a load waits for a host slot: longer, and
	// computing the block is faster.
	loadPatience = 500 * time.Millisecond
	// offloadPatience is the same for offloads, for which nobody waits.
	offloadPatience = 10 * time.Second
)

// waitForRoom waits, without the lock, until ok holds. It gives up at shutdown
// and when patience ends.
func (m *Manager) waitForRoom(patience time.Duration, ok func() bool) bool {
	if ok() {
		return true
	}
	deadline := time.Now().Add(patience)
	t := time.AfterFunc(patience, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.room.Broadcast()
	})
	defer t.Stop()
	for !ok() {
		if m.stopped || !time.Now().Before(deadline) {
			return false
		}
		m.room.Wait()
	}
	return true
}
