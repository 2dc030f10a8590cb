package tierbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Options say what to measure.
type Options struct {
	Dir        string // on the disk to measure; a folder is made in it and removed. Empty: no disk
	RedisURL   string // empty: no Redis
	BlockBytes int    // 0: 2 MiB
	// Bytes are moved per round and direction; 0: 256 MiB, at least 4 blocks.
	Bytes  int64
	Rounds int // 0: 5. The median counts
}

// Report is what was measured.
type Report struct {
	BlockBytes int          `json:"block_bytes"`
	Blocks     int          `json:"blocks"` // per round
	Rounds     int          `json:"rounds"`
	Tiers      []TierReport `json:"tiers"`
}

// TierReport is one tier. A GB is 10^9 bytes; the ratios are tier to limit.
type TierReport struct {
	Tier       kv.Tier `json:"tier"`
	Read       float64 `json:"read_gb_per_s"`
	Write      float64 `json:"write_gb_per_s"`
	LimitRead  float64 `json:"limit_read_gb_per_s"`
	LimitWrite float64 `json:"limit_write_gb_per_s"`
	RatioRead  float64 `json:"ratio_read"`
	RatioWrite float64 `json:"ratio_write"`
	// Limit says what the limit is.
	Limit string `json:"limit"`
}

// limit is the raw thing under a tier. Each call moves all blocks once.
type limit interface {
	name() string
	read() error
	write() error
	close() error
}

// Run measures cpu, and disk and Redis where the options name them.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.BlockBytes == 0 {
		o.BlockBytes = 2 << 20
	}
	if o.Bytes == 0 {
		o.Bytes = 256 << 20
	}
	if o.Rounds == 0 {
		o.Rounds = 5
	}
	blocks := int(max(4, o.Bytes/int64(o.BlockBytes)))
	r := Report{BlockBytes: o.BlockBytes, Blocks: blocks, Rounds: o.Rounds}
	add := func(tier kv.Tier, d *driver, l limit, err error) error {
		if err != nil {
			return fmt.Errorf("bench of the %s tier: %w", tier, errors.Join(err, d.close()))
		}
		t, err := measure(ctx, tier, d, l, o.Rounds)
		if err = errors.Join(err, d.close(), l.close()); err != nil {
			return fmt.Errorf("bench of the %s tier: %w", tier, err)
		}
		r.Tiers = append(r.Tiers, t)
		return nil
	}
	d, err := newDriver(ctx, kv.CPU, blocks, o, "")
	if err != nil {
		return r, err
	}
	l, err := newMemoryLimit(blocks, o.BlockBytes)
	if err := add(kv.CPU, d, l, err); err != nil {
		return r, err
	}
	if o.Dir != "" {
		dir, err := os.MkdirTemp(o.Dir, "kvasir-bench-")
		if err != nil {
			return r, fmt.Errorf("bench of the disk tier: %w", err)
		}
		defer os.RemoveAll(dir)
		d, err := newDriver(ctx, kv.Disk, blocks, o, dir)
		if err != nil {
			return r, err
		}
		l, err := newFileLimit(dir, blocks, o.BlockBytes)
		if err := add(kv.Disk, d, l, err); err != nil {
			return r, err
		}
	}
	if o.RedisURL != "" {
		d, err := newDriver(ctx, kv.Redis, blocks, o, "")
		if err != nil {
			return r, err
		}
		l, err := newSocketLimit(o.RedisURL, blocks, o.BlockBytes)
		if err := add(kv.Redis, d, l, err); err != nil {
			return r, err
		}
	}
	return r, nil
}

// measure takes turns between a tier and its limit. The first round of each
// warms up (page faults, connections, extents never written) and does not count.
func measure(ctx context.Context, tier kv.Tier, d *driver, l limit, rounds int) (TierReport, error) {
	gb := float64(d.blocks) * float64(d.blockBytes) / 1e9
	var read, write, limitRead, limitWrite []float64
	for round := range rounds + 1 {
		if err := ctx.Err(); err != nil {
			return TierReport{}, err
		}
		if err := d.prepare(round); err != nil {
			return TierReport{}, err
		}
		for _, step := range []struct {
			into *[]float64
			do   func() error
		}{{&write, d.write}, {&limitWrite, l.write}, {&read, d.read}, {&limitRead, l.read}} {
			start := time.Now()
			if err := step.do(); err != nil {
				return TierReport{}, err
			}
			if round > 0 {
				*step.into = append(*step.into, gb/time.Since(start).Seconds())
			}
		}
	}
	t := TierReport{
		Tier: tier, Limit: l.name(),
		Read: median(read), Write: median(write), LimitRead: median(limitRead), LimitWrite: median(limitWrite),
	}
	t.RatioRead, t.RatioWrite = t.Read/t.LimitRead, t.Write/t.LimitWrite
	return t, nil
}

func median[T cmp.Ordered](xs []T) T {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
