package kvbm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/disk"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore"
)

// Config is what a Manager is opened with.
type Config struct {
	// Layout says how a block's bytes are to be read. Its BlockBytes sizes every
	// slot and its fingerprint namespaces what is kept on disk and in Redis.
	Layout kv.Layout
	// GPUBlocks makes the manager own the engine's page pool, of that many
	// blocks. 0: there is no gpu pool, and cpu is where Onboard brings blocks.
	GPUBlocks int
	// CPUBytes is the size of the host tier. 0: none of its own.
	CPUBytes int64
	// Disk is the local disk tier.
	Disk DiskConfig
	// Redis is the shared tier.
	Redis RedisConfig
	// Peer lets workers pull from each other's cpu tier.
	Peer PeerConfig
	// Policy is the eviction policy: "lru" (the default) or "arc".
	Policy string
	// Pin, if given, is told the memory of the host tier and the size of its slots,
	// once: a driver may pin it, at its own pace, until Close. The pages are being
	// made present meanwhile.
	Pin func(mem []byte, slotBytes int)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets what an operator should know; nil discards it.
	Log *slog.Logger
}

// DiskConfig is the disk tier.
type DiskConfig struct {
	// Paths are folders of this manager's own, made if absent, each on a device of
	// its own. None: no disk tier.
	Paths []string
	// Bytes is the size of the slab in each of them.
	Bytes int64
	// WriteBytesPerDay is what may be written to each device a day, so that it
	// lives as long as it should. 0: no limit.
	WriteBytesPerDay int64
}

// RedisConfig is the Redis tier.
type RedisConfig struct {
	// URL as go-redis has it: redis://, rediss:// or unix://. Empty: no Redis tier.
	URL string
	// More are the URLs of further servers. Each block has its place on one.
	More []string
	// CA is a file with the certificates that rediss:// servers are checked with;
	// empty: the system's.
	CA string
	// TTL is how long Redis keeps a block that nobody reads; 0 means a day.
	TTL time.Duration
}

// PeerConfig is the peer tier.
type PeerConfig struct {
	// Listen is where this worker lends, host:port. Empty: it neither lends nor
	// pulls.
	Listen string
	// Advertise is how others reach it, where that differs.
	Advertise string
	// Secret is what the workers of a fleet have in common.
	Secret string
	// TLS goes below the protocol, for both sides; nil: plain TCP.
	TLS *tls.Config
}

const (
	defaultHold = 30 * time.Second
	defaultTTL  = 24 * time.Hour
	// stagingBytes is the size of the pool that stands in for a cpu tier, but
	// for at least minStaging and at most maxStaging blocks.
	stagingBytes = 64 << 20
	minStaging   = 16
	maxStaging   = 256
	// minHost blocks let an offload read one slot while a load fills another.
	minHost = 2
)

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Redis.TTL == 0 {
		c.Redis.TTL = defaultTTL
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Layout.BlockBytes <= 0:
		return errors.New("kvbm: the layout's BlockBytes must be more than 0")
	case c.GPUBlocks < 0:
		return errors.New("kvbm: GPUBlocks must not be negative; 0 means that the engine keeps its own pool")
	case c.CPUBytes < 0:
		return errors.New("kvbm: the cpu tier's size must not be negative; 0 turns it off")
	case len(c.Disk.Paths) > policy.MaxParts:
		return fmt.Errorf("kvbm: %d folders for the disk tier; use at most %d", len(c.Disk.Paths), policy.MaxParts)
	case c.Disk.WriteBytesPerDay < 0:
		return errors.New("kvbm: the disk tier's write budget must not be negative; 0 means no limit")
	case c.Redis.TTL < 0:
		return errors.New("kvbm: the Redis tier's TTL must not be negative; 0 means a day")
	}
	if _, err := policy.ParseEviction(c.Policy); err != nil {
		return err
	}
	stride := int64(host.Stride(c.Layout.BlockBytes))
	if c.CPUBytes > 0 && c.CPUBytes < minHost*stride {
		return fmt.Errorf("kvbm: a cpu tier of %d bytes cannot hold %d blocks of %d bytes: give it at least %d, or 0 to turn it off",
			c.CPUBytes, minHost, c.Layout.BlockBytes, minHost*stride)
	}
	if len(c.Disk.Paths) > 0 {
		if err := disk.CheckSize(c.Disk.Bytes, c.Layout.BlockBytes); err != nil {
			return err
		}
	}
	if c.Redis.URL != "" {
		for _, u := range append([]string{c.Redis.URL}, c.Redis.More...) {
			if err := redisstore.CheckURL(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// eviction is the policy of a valid Config.
func (c Config) eviction() policy.Eviction {
	e, _ := policy.ParseEviction(c.Policy)
	return e
}

// hostSlots is the size of the host pool, and whether it is only for staging.
func (c Config) hostSlots() (n int, staging bool) {
	stride := int64(host.Stride(c.Layout.BlockBytes))
	switch {
	case c.CPUBytes > 0:
		return int(c.CPUBytes / stride), false
	case len(c.Disk.Paths) == 0 && c.Redis.URL == "" && c.Peer.Listen == "":
		return 0, false
	}
	return int(min(max(stagingBytes/stride, minStaging), maxStaging)), true
}
