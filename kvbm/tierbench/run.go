package tierbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Options say what to measure.
type Options struct {
	Dir      string // on the disk to measure; a folder is made in it and removed. Empty: no disk
	RedisURL string // empty: no Redis
	// Holder is a process that calls Hold with its standard input and output; nil:
	// no peer.
	Holder     func() *exec.Cmd
	BlockBytes int // 0: 2 MiB
	// Bytes are moved per round and direction; 0: 256 MiB, at least 4 blocks.
	Bytes  int64
	Rounds int // 0: 11. The median counts
}

// Report is what was measured.
type Report struct {
	BlockBytes int          `json:"block_bytes"`
	Blocks     int          `json:"blocks"` // per round
	Rounds     int          `json:"rounds"`
	Tiers      []TierReport `json:"tiers"`
}

// TierReport is one tier. A GB is 10^9 bytes. Speeds are medians over the
// rounds; a ratio, tier to limit, is the median of the rounds' own ratios, because
// the two halves of one round saw the same machine.
type TierReport struct {
	Tier       kv.Tier `json:"tier"`
	Read       float64 `json:"read_gb_per_s"`
	Write      float64 `json:"write_gb_per_s"`
	LimitRead  float64 `json:"limit_read_gb_per_s"`
	LimitWrite float64 `json:"limit_write_gb_per_s"`
	RatioRead  float64 `json:"ratio_read"`
	RatioWrite float64 `json:"ratio_write"`
	// CPU is what this process used, in seconds of one core per GB.
	CPURead       float64 `json:"cpu_s_per_gb_read"`
	CPUWrite      float64 `json:"cpu_s_per_gb_write"`
	LimitCPURead  float64 `json:"limit_cpu_s_per_gb_read"`
	LimitCPUWrite float64 `json:"limit_cpu_s_per_gb_write"`
	// Load is how long a request waits for one block, with nothing else going on
	// and beside as many offloads as the tier takes. LimitLoad and LimitStore are
	// one block, read and written at the limit.
	Load       Latency `json:"load_us"`
	LoadBeside Latency `json:"load_beside_offload_us"`
	LimitLoad  Latency `json:"limit_load_us"`
	LimitStore Latency `json:"limit_store_us"`
	// Limit says what the limit is.
	Limit string `json:"limit"`
}

// limit is the raw thing under a tier. Each call moves the first n blocks.
type limit interface {
	name() string
	read(n int) error
	write(n int) error
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
		o.Rounds = 11
	}
	blocks := int(max(4, o.Bytes/int64(o.BlockBytes)))
	r := Report{BlockBytes: o.BlockBytes, Blocks: blocks, Rounds: o.Rounds}
	add := func(tier kv.Tier, d mover, l limit, err error) error {
		if err != nil {
			return fmt.Errorf("bench of the %s tier: %w", tier, errors.Join(err, d.close()))
		}
		t, err := measure(ctx, tier, d, l, o.Rounds, blocks, o.BlockBytes)
		if p, ok := d.(*peerPair); ok && err == nil {
			err = p.latencies(&t, l)
		}
		// The bare sockets hang up before the process at their other end is waited for.
		if tier == kv.Peer {
			err = errors.Join(err, l.close(), d.close())
		} else {
			if err = errors.Join(err, d.close()); err == nil {
				err = latencies(ctx, o, &t, l)
			}
			err = errors.Join(err, l.close())
		}
		if err != nil {
			return fmt.Errorf("bench of the %s tier: %w", tier, err)
		}
		r.Tiers = append(r.Tiers, t)
		return nil
	}
	d, err := newDriver(ctx, kv.CPU, blocks, blocks, o, "")
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
		d, err := newDriver(ctx, kv.Disk, blocks, blocks, o, dir)
		if err != nil {
			return r, err
		}
		l, err := newFileLimit(dir, blocks, o.BlockBytes)
		if err := add(kv.Disk, d, l, err); err != nil {
			return r, err
		}
	}
	if o.RedisURL != "" {
		d, err := newRedisPair(ctx, blocks, o)
		if err != nil {
			return r, fmt.Errorf("bench of the redis tier: %w", err)
		}
		l, err := newSocketLimit(o.RedisURL, blocks, o.BlockBytes)
		if err := add(kv.Redis, d, l, err); err != nil {
			return r, err
		}
	}
	if o.Holder != nil {
		d, err := newPeerPair(ctx, blocks, o)
		if err != nil {
			return r, fmt.Errorf("bench of the peer tier: %w", err)
		}
		l, err := newRawPeer(d)
		if err := add(kv.Peer, d, l, err); err != nil {
			return r, err
		}
	}
	return r, nil
}

// mover moves one round of blocks down to a tier and up from it.
type mover interface {
	prepare(round int) error
	write() error
	read() error
	close() error
}

// measure takes turns between a tier and its limit. The first round of each
// warms up (page faults, connections, extents never written) and does not count.
func measure(ctx context.Context, tier kv.Tier, d mover, l limit, rounds, blocks, blockBytes int) (TierReport, error) {
	gb := float64(blocks) * float64(blockBytes) / 1e9
	var sums [numSteps]struct{ speed, cpu []float64 }
	var ratioRead, ratioWrite []float64
	for round := range rounds + 1 {
		if err := ctx.Err(); err != nil {
			return TierReport{}, err
		}
		if err := d.prepare(round); err != nil {
			return TierReport{}, err
		}
		var speed [numSteps]float64
		for i, do := range [numSteps]func() error{
			stepWrite: d.write, stepLimitWrite: func() error { return l.write(blocks) },
			stepRead: d.read, stepLimitRead: func() error { return l.read(blocks) },
		} {
			start, used := time.Now(), processCPU()
			if err := do(); err != nil {
				return TierReport{}, err
			}
			speed[i] = gb / time.Since(start).Seconds()
			if round > 0 {
				sums[i].speed = append(sums[i].speed, speed[i])
				sums[i].cpu = append(sums[i].cpu, (processCPU()-used).Seconds()/gb)
			}
		}
		if round > 0 {
			ratioRead = append(ratioRead, speed[stepRead]/speed[stepLimitRead])
			ratioWrite = append(ratioWrite, speed[stepWrite]/speed[stepLimitWrite])
		}
	}
	speed := func(i int) float64 { return median(sums[i].speed) }
	cpu := func(i int) float64 { return median(sums[i].cpu) }
	t := TierReport{
		Tier: tier, Limit: l.name(), RatioRead: median(ratioRead), Read: speed(stepRead), LimitRead: speed(stepLimitRead),
		CPURead: cpu(stepRead), LimitCPURead: cpu(stepLimitRead),
	}
	if tier != kv.Peer { // which is only read
		t.RatioWrite, t.Write, t.LimitWrite = median(ratioWrite), speed(stepWrite), speed(stepLimitWrite)
		t.CPUWrite, t.LimitCPUWrite = cpu(stepWrite), cpu(stepLimitWrite)
	}
	return t, nil
}

// The steps of a round. Each of the tier's is followed by its limit's.
const (
	stepWrite = iota
	stepLimitWrite
	stepRead
	stepLimitRead
	numSteps
)

// processCPU is what this process has used so far.
func processCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for no process's own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median[T cmp.Ordered](xs []T) T {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
