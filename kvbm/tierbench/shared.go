package tierbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// A tier that workers share is measured between two managers without a gpu
// pool, from cpu slot to cpu slot: one has the blocks, the other has never seen
// them. So no copy to and from a pool above is in the figures.

// stamps are an engine's pages of which each differs in its first bytes only:
// making their content up shall take no time.
type stamps struct{ next uint64 }

func (s *stamps) Save(_ context.Context, ts []gpu.Transfer, _ uint64) error {
	for _, t := range ts {
		s.next++
		binary.LittleEndian.PutUint64(t.Host, s.next*0x9e3779b97f4a7c15)
	}
	return nil
}

func (*stamps) Load(context.Context, policy.Priority, []gpu.Transfer) error { return nil }

// fill puts blocks into a manager's cpu tier.
func fill(ctx context.Context, m *kvbm.Manager, pages *stamps, bs []kv.Block) error {
	paged := make([]kvbm.Paged, len(bs))
	for i, b := range bs {
		paged[i].Block = b
	}
	n, err := m.SavePages(ctx, pages, paged, 0)
	if err == nil && n < len(bs) {
		err = fmt.Errorf("only %d of %d blocks fit into cpu", n, len(bs))
	}
	return err
}

// pull onboards blocks that another manager has.
func pull(ctx context.Context, m *kvbm.Manager, tier kv.Tier, r kvbm.OnboardRequest) error {
	o := m.Onboard(ctx, r)
	defer o.Release()
	if res := o.Result(); res.Blocks[tier] != len(r.Blocks) {
		return fmt.Errorf("of %d blocks only %d came from the tier: %+v", len(r.Blocks), res.Blocks[tier], res)
	}
	return nil
}

// hostConfig is a manager with a cpu tier of so many blocks.
func hostConfig(model string, blocks, blockBytes int) kvbm.Config {
	return kvbm.Config{
		Layout:   kv.Layout{Model: model, BlockBytes: blockBytes},
		CPUBytes: int64(blocks) * int64(host.Stride(blockBytes)),
	}
}

// redisPair is a writer and a reader of one Redis.
type redisPair struct {
	ctx            context.Context
	writer, reader *kvbm.Manager
	pages          stamps
	blocks         int
	round          []kv.Block
	client         *redis.Client
	keys           []string
	stored         atomic.Int64
	news           chan struct{}
}

func newRedisPair(ctx context.Context, blocks int, o Options) (_ *redisPair, err error) {
	opts, err := redis.ParseURL(o.RedisURL)
	if err != nil {
		return nil, errors.New("the Redis URL cannot be read")
	}
	// A layout of this run alone: nothing in Redis is found, or left findable.
	c := hostConfig(fmt.Sprintf("bench %x", rand.Uint64()), blocks, o.BlockBytes)
	c.Redis = kvbm.RedisConfig{URL: o.RedisURL, TTL: 5 * time.Minute}
	p := &redisPair{
		ctx: ctx, blocks: blocks, client: redis.NewClient(opts), news: make(chan struct{}, 1),
		keys: []string{"kvasir:" + c.Layout.Fingerprint().String() + ":*", rawPrefix + "*"},
	}
	if p.writer, err = kvbm.Open(ctx, c); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.reader, err = kvbm.Open(ctx, c); err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.writer.Watch(func(es []kv.Event) {
		for _, e := range es {
			if e.Kind == kv.Stored && e.Tier == kv.Redis {
				p.stored.Add(int64(len(e.Hashes)))
			}
		}
		select {
		case p.news <- struct{}{}:
		default:
		}
	})
	return p, nil
}

func (p *redisPair) prepare(round int) error {
	p.round = names(round, p.blocks)
	return scrub(p.ctx, p.client, p.keys)
}

// write fills cpu and waits until all of it is in Redis.
func (p *redisPair) write() error {
	p.stored.Store(0)
	if err := fill(p.ctx, p.writer, &p.pages, p.round); err != nil {
		return err
	}
	for p.stored.Load() < int64(p.blocks) {
		select {
		case <-p.news:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("only %d of %d blocks reached Redis: %+v", p.stored.Load(), p.blocks, p.writer.Stats().Links)
		}
	}
	return nil
}

func (p *redisPair) read() error {
	return pull(p.ctx, p.reader, kv.Redis, kvbm.OnboardRequest{Blocks: p.round})
}

func (p *redisPair) close() error {
	errs := []error{scrub(p.ctx, p.client, p.keys), p.client.Close()}
	for _, m := range []*kvbm.Manager{p.writer, p.reader} {
		if m != nil {
			errs = append(errs, m.Close(context.WithoutCancel(p.ctx)))
		}
	}
	return errors.Join(errs...)
}
