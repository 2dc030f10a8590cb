package kvbm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// janitorPeriod is how late a hold or a belief about Redis may end.
	janitorPeriod = 100 * time.Millisecond
	// maxKnown bounds what is remembered of Redis.
	maxKnown = 1 << 20
	// drainLimit bounds Close when its context does not.
	drainLimit = 5 * time.Second
)

// Manager moves blocks between tiers. Its methods are safe for concurrent use.
type Manager struct {
	now        func() time.Time
	log        *slog.Logger
	blockBytes int
	ctx        context.Context // ends when Close stops waiting
	cancel     context.CancelFunc
	wg         sync.WaitGroup // workers of links, the janitor, onboardings

	mu   sync.Mutex
	room *sync.Cond // a host slot, or a place among the offload leases, may have become free
	idle *sync.Cond // a job ended

	gpu   *Pool // nil: the engine keeps its own
	cpu   *Pool // nil: no tier below gpu
	disk  *diskTier
	redis *redisTier
	peers *peerTier // nil: none

	links         []*link
	offloadLeases int // on cpu slots that wait to be copied down
	flights       map[flightKey]*flight
	onboardings   map[*Onboarding]struct{} // running and held
	plans         map[string]*Onboarding   // those with an id
	settled       settled                  // requests that want no more
	watchers      map[int]func([]kv.Event)
	nextWatcher   int
	tiers         [kv.NumTiers]tierCounts
	closing       bool // no new work
	stopped       bool // workers leave
}

// Open makes a manager with the tiers that c turns on. It finds again what the
// disk tier held. A Redis that is down is not an error: its blocks are missed
// until it answers.
func Open(ctx context.Context, c Config) (*Manager, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	m := &Manager{
		now:         c.Now,
		log:         c.Log,
		blockBytes:  c.Layout.BlockBytes,
		flights:     make(map[flightKey]*flight),
		onboardings: make(map[*Onboarding]struct{}),
		plans:       make(map[string]*Onboarding),
		watchers:    make(map[int]func([]kv.Event)),
	}
	m.room, m.idle = sync.NewCond(&m.mu), sync.NewCond(&m.mu)
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.openTiers(ctx, c); err != nil {
		m.cancel()
		return nil, errors.Join(err, m.closeTiers())
	}
	m.startLinks()
	m.wg.Go(m.janitor)
	if m.redis != nil {
		m.wg.Go(m.tendRedis)
	}
	return m, nil
}

func (m *Manager) openTiers(ctx context.Context, c Config) (err error) {
	if c.GPUBlocks > 0 {
		if m.gpu, err = newPool(m, kv.GPU, c.GPUBlocks, true, c); err != nil {
			return fmt.Errorf("kvbm: gpu pool: %w", err)
		}
	}
	if n, staging := c.hostSlots(); n > 0 {
		if m.cpu, err = newPool(m, kv.CPU, n, !staging, c); err != nil {
			return fmt.Errorf("kvbm: cpu tier: %w", err)
		}
		if c.Pin != nil {
			m.cpu.mem.Touch()
			c.Pin(m.cpu.mem.All(), m.cpu.mem.Geometry().Stride)
		}
	}
	if len(c.Disk.Paths) > 0 {
		if err := m.openDisks(c); err != nil {
			return err
		}
	}
	if c.Redis.URL != "" {
		if err := m.openRedis(ctx, c); err != nil {
			return err
		}
	}
	if c.Peer.Listen != "" {
		return m.openPeers(c)
	}
	return nil
}

// GPU is the engine's page pool, nil when the engine keeps its own.
func (m *Manager) GPU() *Pool { return m.gpu }

// BlockBytes is the size of one block.
func (m *Manager) BlockBytes() int { return m.blockBytes }

// ShareHost sends the host tier's memory to a plug-in over a Unix socket, as
// host.Memory.Share does.
func (m *Manager) ShareHost(c *net.UnixConn) error {
	if m.cpu == nil {
		return errors.New("kvbm: there is no host tier to share")
	}
	return m.cpu.mem.Share(c)
}

// SharedStore names the Redis tier: managers with the same name see each
// other's blocks. It is empty without Redis, and never holds a password.
func (m *Manager) SharedStore() string {
	if m.redis == nil {
		return ""
	}
	return m.redis.name
}

// Close takes no more work, finishes the offloads under way as long as ctx
// lasts (at most 5 s), gives up the rest, and leaves the disk tier ready to be
// found again. Fillings and leases should have ended: memory that is still in
// use is not unmapped.
func (m *Manager) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		return nil
	}
	m.closing = true
	for o := range m.onboardings {
		o.abandon()
	}
	defer context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.idle.Broadcast()
	})()
	for m.busy() && ctx.Err() == nil {
		m.idle.Wait()
	}
	m.stopped = true
	for _, l := range m.links {
		l.abandon()
	}
	m.room.Broadcast()
	m.mu.Unlock()

	m.cancel()
	m.wg.Wait()
	return m.closeTiers()
}

func (m *Manager) busy() bool {
	for _, l := range m.links {
		if l.busy() {
			return true
		}
	}
	return false
}

func (m *Manager) closeTiers() error {
	var errs []error
	if m.peers != nil {
		errs = append(errs, m.peers.close())
	}
	if m.disk != nil {
		errs = append(errs, m.disk.close())
	}
	if m.redis != nil {
		errs = append(errs, m.redis.close())
	}
	for _, p := range []*Pool{m.gpu, m.cpu} {
		if p == nil {
			continue
		}
		if c := p.table.Counts(); c.Filling+c.Leased > 0 {
			m.log.Warn("block memory is still in use at close; it stays mapped",
				"tier", p.tier, "filling", c.Filling, "leased", c.Leased)
			continue
		}
		errs = append(errs, p.mem.Close())
	}
	return errors.Join(errs...)
}

// janitor ends what time ends: the holds of onboardings that no engine came
// for, and beliefs about Redis. It goes on with what outages left undone.
func (m *Manager) janitor() {
	tick := time.NewTicker(janitorPeriod)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			m.reopen()
			m.mu.Lock()
			m.expire(m.now())
			for _, l := range m.links {
				if l.from == kv.CPU && l.store != nil {
					m.stepCatchUp(l, m.now())
				}
			}
			m.mu.Unlock()
		}
	}
}

func (m *Manager) expire(now time.Time) {
	for o := range m.onboardings {
		if o.finished && !now.Before(o.holdUntil) {
			o.letGo()
		}
	}
	if m.redis != nil {
		m.removed(kv.Redis, m.redis.known.Expire(now))
	}
}

// tableOf is the slot table of a tier, nil when the tier is off or has none.
func (m *Manager) tableOf(t kv.Tier) *policy.Table {
	switch {
	case t == kv.GPU && m.gpu != nil:
		return m.gpu.table
	case t == kv.CPU && m.cpu != nil:
		return m.cpu.table
	case t == kv.Disk && m.disk != nil:
		return m.disk.table
	}
	return nil
}

func (m *Manager) poolOf(t kv.Tier) *Pool {
	if t == kv.GPU {
		return m.gpu
	}
	return m.cpu
}
