package kvbm

import (
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// One copy at a time per direction between memories: a copy engine, or a
	// core, is not faster for being shared.
	memoryWorkers = 1
	// Reads in flight that keep a disk busy; writes are nobody's hurry.
	diskReaders = 4
	diskWriters = 2
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
	failed                   // an I/O error or a checksum that does not match
	numOutcomes
)

// job is one block on one link.
type job struct {
	policy.Item[*job]
	block  kv.Block
	src    *Lease  // held from queueing to the end, for offloads from cpu and loads to gpu
	flight *flight // nil for an offload
}

// link moves blocks from one tier to another.
type link struct {
	m        *Manager
	from, to kv.Tier
	workers  int
	// move does one job. It is called with mu held and gives it up during I/O.
	move    func(*job) outcome
	breaker *policy.Breaker // nil: cannot fail
	queue   *policy.Queue[*job]
	pending map[kv.Hash]*job // offloads queued or running
	ready   *sync.Cond
	running int
	rate    policy.Rate
	offered uint64
	ended   [numOutcomes]uint64
	bytes   uint64
}

func (m *Manager) startLinks() {
	add := func(from, to kv.Tier, workers int, b *policy.Breaker, move func(*link, *job) outcome) {
		l := &link{
			m: m, from: from, to: to, workers: workers, breaker: b,
			queue:   policy.NewQueue[*job](max(offloadBytes, offloadBlocks*int64(m.blockBytes))),
			pending: make(map[kv.Hash]*job),
			ready:   sync.NewCond(&m.mu),
		}
		l.move = func(j *job) outcome { return move(l, j) }
		m.links = append(m.links, l)
	}
	if m.gpu != nil && m.cpu != nil {
		add(kv.GPU, kv.CPU, memoryWorkers, nil, m.saveToHost)
		add(kv.CPU, kv.GPU, memoryWorkers, nil, m.loadToGPU)
	}
	if m.disk != nil {
		add(kv.CPU, kv.Disk, diskWriters, &m.disk.breaker, m.saveToDisk)
		add(kv.Disk, kv.CPU, diskReaders, &m.disk.breaker, m.loadFromDisk)
	}
	if m.redis != nil {
		add(kv.CPU, kv.Redis, redisWorkers, &m.redis.breaker, m.saveToRedis)
		add(kv.Redis, kv.CPU, redisWorkers, &m.redis.breaker, m.loadFromRedis)
	}
	for _, l := range m.links {
		for range l.workers {
			m.wg.Go(l.work)
		}
	}
}

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
	for {
		it, ok := l.queue.Pop()
		if !ok {
			if l.m.stopped {
				return
			}
			l.ready.Wait()
			continue
		}
		l.running++
		how := l.move(it.Value)
		l.running--
		l.settle(it.Value, how)
	}
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
	l.ended[how]++
	if how == moved {
		l.bytes += uint64(l.m.blockBytes)
	}
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

// timed runs a transfer without the lock and measures it. The link's rate
// learns only from transfers that moved the block.
func (l *link) timed(transfer func() error) error {
	start := l.m.now()
	l.rate.Start(start)
	l.m.mu.Unlock()
	err := transfer()
	l.m.mu.Lock()
	now := l.m.now()
	if err != nil {
		l.rate.Cancel(now)
	} else {
		l.rate.Finish(now, int64(l.m.blockBytes), now.Sub(start))
	}
	return err
}

// broke tells the breaker about an error, and the log when that opens it.
func (l *link) broke(err error) {
	if l.breaker.Failure(l.m.now()) {
		l.m.log.Warn("a tier is left alone after repeated errors; its blocks are missed until it works again",
			"from", l.from, "to", l.to, "err", err)
	}
}

func (l *link) works() {
	if !l.breaker.Closed() {
		l.m.log.Info("a tier works again", "from", l.from, "to", l.to)
	}
	l.breaker.Success()
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
