package kvbm

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/peer"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// Connections that pull at a time, and what one call over one of them brings:
	// a few large blocks or many small ones, so that asking costs nothing.
	peerWorkers = 4
	peerCall    = 8 << 20
	// maxRemotes bounds how many peers are remembered.
	maxRemotes = 256
)

// peerTier is what this worker lends, and what it knows of those it pulls from.
type peerTier struct {
	options   peer.Options
	advertise string
	server    *peer.Server
	remotes   map[string]*remote
	lent      int // cpu slots that are being sent
	declined  uint64
}

// remote is one peer that was pulled from.
type remote struct {
	health
	address string
	client  *peer.Client
	used    time.Time
	calls   int // under way
	blocks  uint64
	missed  uint64
	corrupt uint64
}

// openPeers starts to lend.
func (m *Manager) openPeers(c Config) (err error) {
	t := &peerTier{
		options: peer.Options{Fingerprint: c.Layout.Fingerprint(), BlockBytes: m.blockBytes, Secret: c.Peer.Secret, TLS: c.Peer.TLS},
		remotes: make(map[string]*remote),
	}
	if t.server, err = peer.Listen(c.Peer.Listen, t.options, m.lend, m.log); err != nil {
		return err
	}
	t.advertise = cmp.Or(c.Peer.Advertise, t.server.Addr())
	m.peers = t
	return nil
}

// PeerAddress is where other workers pull this one's blocks; empty without a
// peer tier.
func (m *Manager) PeerAddress() string {
	if m.peers == nil {
		return ""
	}
	return m.peers.advertise
}

// lend gives a peer a block of the host tier to send. At most a quarter of the
// pool is lent, the rest is for this worker's own.
func (m *Manager) lend(h kv.Hash) (data []byte, release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing || m.peers == nil {
		return nil, nil
	}
	s, ok := m.cpu.table.Find(h)
	if !ok {
		return nil, nil
	}
	if m.peers.lent >= max(1, m.cpu.Capacity()/4) {
		m.peers.declined++
		return nil, nil
	}
	m.peers.lent++
	m.cpu.table.Touch(s)
	l := m.cpu.lease(s)
	return m.cpu.mem.Slot(int(s)), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.peers.lent--
		l.release()
	}
}

// The methods below are called with mu held.

// usable implements store.
func (t *peerTier) usable(now time.Time) bool {
	return t.any(func(r *remote) bool { return r.Usable(now) })
}

// up implements store: a router that was told so plans no more pulls.
func (t *peerTier) up() bool { return t.any(func(r *remote) bool { return r.Closed() }) }

func (t *peerTier) any(ok func(*remote) bool) bool {
	for _, r := range t.remotes {
		if ok(r) {
			return true
		}
	}
	return len(t.remotes) == 0
}

// remote is the peer at an address, new or known.
func (m *Manager) remote(address string) *remote {
	t, now := m.peers, m.now()
	r := t.remotes[address]
	if r == nil {
		if len(t.remotes) >= maxRemotes {
			t.forget()
		}
		r = &remote{health: m.newHealth("peer " + address), address: address, client: peer.NewClient(address, t.options)}
		t.remotes[address] = r
	}
	r.used = now
	return r
}

// forget drops the peer that was not pulled from for the longest time.
func (t *peerTier) forget() {
	var oldest *remote
	for _, r := range t.remotes {
		if r.calls == 0 && (oldest == nil || r.used.Before(oldest.used)) {
			oldest = r
		}
	}
	if oldest != nil {
		_ = oldest.client.Close() // nothing to lose
		delete(t.remotes, oldest.address)
	}
}

// nextPeer is the next peer that a flight may come from, as the router named
// them; nil when there is none that works.
func (f *flight) nextPeer() *remote {
	for f.m.peers != nil && len(f.peers) > 0 {
		r := f.m.remote(f.peers[0])
		if f.peers = f.peers[1:]; r.Usable(f.m.now()) {
			return r
		}
	}
	return nil
}

// boardPeers adds what a further passenger knows of where the block is.
func (f *flight) boardPeers(peers []string) {
	for _, p := range peers {
		if !slices.Contains(f.peers, p) {
			f.peers = append(slices.Clip(f.peers), p)
		}
	}
}

// peerBlocks is how many blocks one call brings.
func (m *Manager) peerBlocks() int { return max(1, peerCall/m.blockBytes) }

// pull is one block of a call to a peer.
type pull struct {
	job *job
	dst policy.Slot
}

// loadFromPeers copies peer -> cpu, with a call for each run of jobs from one
// peer, and no more blocks in it than there are slots to be had.
func (m *Manager) loadFromPeers(l *link, jobs []*job) {
	for len(jobs) > 0 {
		from := jobs[0].peer
		var pulls []pull
		for len(jobs) > 0 && jobs[0].peer == from && (len(pulls) == 0 || m.cpu.table.Available() > 0) {
			j := jobs[0]
			jobs = jobs[1:]
			dst, how := m.hostSlot(l, j.flight)
			if how != moved {
				l.settle(j, how)
				continue
			}
			pulls = append(pulls, pull{j, dst})
		}
		if len(pulls) > 0 {
			m.pull(l, from, pulls)
		}
	}
}

// pull makes one call. Blocks land as they come; those that do not are missed,
// and looked for in the next place.
func (m *Manager) pull(l *link, from *remote, pulls []pull) {
	landed, good, corrupt := 0, 0, false
	end := func(how outcome) {
		p := pulls[landed]
		landed++
		if how != moved {
			m.cpu.abort(p.dst)
		} else if how = m.land(p.job, m.cpu, p.dst, p.job.block); how == moved {
			good++
		}
		l.settle(p.job, how)
	}
	if !from.Allow(m.now()) {
		for landed < len(pulls) {
			end(missed)
		}
		return
	}
	blocks := make([]peer.Block, len(pulls))
	for i, p := range pulls {
		blocks[i] = peer.Block{Hash: p.job.block.Hash, Dst: m.cpu.mem.Slot(int(p.dst))}
	}
	ctx, cancel := m.whileWanted(pulls)
	defer cancel()
	from.calls++
	start := m.now()
	l.rate.Start(start)
	m.mu.Unlock()
	err := from.client.Fetch(ctx, blocks, func(_ int, err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case err == nil:
			from.blocks++
			end(moved)
		case errors.Is(err, peer.ErrMiss):
			from.missed++
			m.tiers[kv.Peer].misses++
			end(missed)
		default:
			corrupt = true
			from.corrupt++
			m.corrupt(kv.Peer, pulls[landed].job.block, err)
			end(failed)
		}
	})
	m.mu.Lock()
	from.calls--
	if good > 0 {
		l.rate.Finish(m.now(), int64(good)*int64(m.blockBytes), m.now().Sub(start))
	} else {
		l.rate.Cancel(m.now())
	}
	switch {
	case corrupt:
		from.broke(peer.ErrCorrupt)
	case err == nil || landed == len(pulls):
		from.works()
	case ctx.Err() != nil:
		from.Unknown()
	default:
		from.broke(err)
	}
	for landed < len(pulls) {
		if pulls[landed].job.flight.forsaken() {
			end(cancelled)
		} else {
			end(failed)
		}
	}
}

// whileWanted is a context that ends when nobody waits for any of the blocks.
func (m *Manager) whileWanted(pulls []pull) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(m.ctx)
	wanted := len(pulls)
	var stops []func() bool
	for _, p := range pulls {
		stops = append(stops, context.AfterFunc(p.job.flight.ctx, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if wanted--; wanted == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// PeerStats is what the peer tier lends and pulls.
type PeerStats struct {
	Address string           `json:"address"`
	Lent    peer.ServerStats `json:"lent"`
	// Declined blocks were here, but too many others were being sent.
	Declined uint64        `json:"declined"`
	Remotes  []RemoteStats `json:"remotes,omitempty"`
}

// RemoteStats is one peer that this worker pulls from.
type RemoteStats struct {
	Address string `json:"address"`
	Up      bool   `json:"up"` // false while it is left alone after errors
	Alarms  uint64 `json:"alarms"`
	Blocks  uint64 `json:"blocks"`
	Missed  uint64 `json:"missed"`
	Corrupt uint64 `json:"corrupt"`
}

func (t *peerTier) stats() *PeerStats {
	s := &PeerStats{Address: t.advertise, Lent: t.server.Stats(), Declined: t.declined}
	for _, r := range t.remotes {
		s.Remotes = append(s.Remotes, RemoteStats{r.address, r.Closed(), r.opened, r.blocks, r.missed, r.corrupt})
	}
	slices.SortFunc(s.Remotes, func(a, b RemoteStats) int { return cmp.Compare(a.Address, b.Address) })
	return s
}

func (t *peerTier) close() error {
	err := t.server.Close()
	for _, r := range t.remotes {
		err = errors.Join(err, r.client.Close())
	}
	return err
}
