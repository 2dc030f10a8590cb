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
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// driver moves one round of blocks through a block manager that has a gpu pool
// and the tier to measure.
type driver struct {
	ctx        context.Context
	m          *kvbm.Manager
	tier       kv.Tier
	blocks     int
	blockBytes int
	round      []kv.Block
	fills      []*kvbm.Filling
	client     *redis.Client
	keys       []string      // patterns of what the bench leaves in Redis
	stored     atomic.Int64  // blocks that came to be in the tier
	news       chan struct{} // says that there are more
}

// newDriver makes a tier for the given number of blocks below a gpu pool.
func newDriver(ctx context.Context, tier kv.Tier, gpuBlocks, blocks int, o Options, dir string) (*driver, error) {
	c := kvbm.Config{
		// A layout of this run alone: nothing in Redis is found, or left findable.
		Layout:    kv.Layout{Model: fmt.Sprintf("bench %x", rand.Uint64()), BlockBytes: o.BlockBytes},
		GPUBlocks: gpuBlocks,
	}
	d := &driver{ctx: ctx, tier: tier, blocks: blocks, blockBytes: o.BlockBytes, news: make(chan struct{}, 1)}
	stride := int64(host.Stride(o.BlockBytes))
	switch tier {
	case kv.CPU:
		c.CPUBytes = int64(blocks) * stride
	case kv.Disk:
		c.Disk = kvbm.DiskConfig{Paths: []string{dir}, Bytes: host.Align + int64(blocks)*stride}
	case kv.Redis:
		opts, err := redis.ParseURL(o.RedisURL)
		if err != nil {
			return nil, errors.New("the Redis URL cannot be read")
		}
		d.client = redis.NewClient(opts)
		d.keys = []string{"kvasir:" + c.Layout.Fingerprint().String() + ":*", rawPrefix + "*"}
		c.Redis = kvbm.RedisConfig{URL: o.RedisURL, TTL: 5 * time.Minute}
	}
	var err error
	if d.m, err = kvbm.Open(ctx, c); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.m.Watch(func(es []kv.Event) {
		for _, e := range es {
			if e.Kind == kv.Stored && e.Tier == tier {
				d.stored.Add(int64(len(e.Hashes)))
			}
		}
		select {
		case d.news <- struct{}{}:
		default:
		}
	})
	return d, nil
}

func (d *driver) close() error {
	var errs []error
	if d.m != nil {
		errs = append(errs, d.m.Close(context.WithoutCancel(d.ctx)))
	}
	if d.client != nil {
		errs = append(errs, d.scrub(), d.client.Close())
	}
	return errors.Join(errs...)
}

// scrub deletes what the last round left in Redis, so that no round makes the
// server larger.
func (d *driver) scrub() error {
	if d.client == nil {
		return nil
	}
	return scrub(d.ctx, d.client, d.keys)
}

func scrub(ctx context.Context, c *redis.Client, patterns []string) error {
	ctx = context.WithoutCancel(ctx)
	for _, pattern := range patterns {
		for it := c.Scan(ctx, 0, pattern, 1000).Iterator(); it.Next(ctx); {
			if err := c.Del(ctx, it.Val()).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare fills the gpu pool with new blocks, ready to commit.
func (d *driver) prepare(round int) (err error) {
	// Blocks that the last round brought up are offered down again; that must not
	// disturb this one.
	if round > 0 {
		if err := d.rest(); err != nil {
			return err
		}
	}
	if err := d.scrub(); err != nil {
		return err
	}
	d.round = d.name(round)
	if d.fills, err = d.m.GPU().Reserve(d.blocks); err != nil {
		return err
	}
	for i, f := range d.fills {
		b := f.Bytes()
		for at := 0; at+8 <= len(b); at += 8 {
			binary.LittleEndian.PutUint64(b[at:], uint64(round*d.blocks+i)*0x9e3779b97f4a7c15+uint64(at))
		}
	}
	return nil
}

// name makes up the blocks of a round.
func (d *driver) name(round int) []kv.Block { return names(round, d.blocks) }

func names(round, blocks int) (bs []kv.Block) {
	var parent kv.Hash
	for i := range blocks {
		var h kv.Hash
		binary.LittleEndian.PutUint64(h[:], uint64(round)<<32|uint64(i)|1<<63)
		bs = append(bs, kv.Block{Hash: h, Parent: parent})
		parent = h
	}
	return bs
}

// write commits the round in gpu and waits until all of it is in the tier.
func (d *driver) write() error {
	d.stored.Store(0)
	for i, f := range d.fills {
		l, ok := f.Commit(d.round[i])
		if !ok {
			return errors.New("a block is in the pool already")
		}
		l.Release()
	}
	for d.stored.Load() < int64(d.blocks) {
		select {
		case <-d.news:
		case <-time.After(time.Second): // some were lost: say so
			return d.rest()
		}
	}
	return nil
}

// rest waits until nothing moves any more, and makes sure that the round is in
// the tier.
func (d *driver) rest() error {
	d.drain()
	if there := d.there(d.round); there < d.blocks {
		return fmt.Errorf("only %d of %d blocks reached the tier: %+v", there, d.blocks, d.m.Stats().Links)
	}
	return nil
}

// drain waits until nothing moves any more.
func (d *driver) drain() {
	for {
		queued := 0
		for _, l := range d.m.Stats().Links {
			queued += l.Queued
		}
		if queued == 0 {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// there counts the leading blocks that are in the tier.
func (d *driver) there(bs []kv.Block) (n int) {
	var hashes []kv.Hash
	for _, b := range bs {
		hashes = append(hashes, b.Hash)
	}
	for _, span := range d.m.Lookup(hashes) {
		if span.Tiers.Has(d.tier) {
			n += span.Blocks
		}
	}
	return n
}

// read empties the gpu pool and brings the round back.
func (d *driver) read() error {
	fills, err := d.m.GPU().Reserve(d.blocks)
	if err != nil {
		return err
	}
	for _, f := range fills {
		f.Abort()
	}
	o := d.m.Onboard(d.ctx, kvbm.OnboardRequest{Blocks: d.round})
	defer o.Release()
	if r := o.Result(); r.Blocks[d.tier] != d.blocks {
		return fmt.Errorf("of %d blocks only %d came back from the tier: %+v", d.blocks, r.Blocks[d.tier], r)
	}
	return nil
}
