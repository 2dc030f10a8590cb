package redisstore

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// Any one bit of a stored block flips, in its header or in its bytes: it is
// always noticed, and the block is deleted. KVASIR_FLIPS sets their number.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	flips, r := trial.Size(t, "KVASIR_FLIPS", 300), trial.Rand(t)
	srv := redistest.Start(t)
	const size = 600
	s := open(t, srv.URL(), size)
	src, dst := random(size, 1), make([]byte, size)
	ctx := context.Background()
	for range flips {
		if _, err := s.Put(ctx, blk, src); err != nil {
			t.Fatal(err)
		}
		bit, key := r.Int64N(8*(headerBytes+size)), s.key(blk.Hash)
		at := bit
		if at >= 8*headerBytes {
			at, key = at-8*headerBytes, key+":0"
		}
		if err := flipBit(ctx, s.client, key, at); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, blk.Hash, dst); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d of header and bytes flipped: %v", bit, err)
		}
	}
	t.Logf("%d flips, each noticed", flips)
}

func flipBit(ctx context.Context, c redis.UniversalClient, key string, at int64) error {
	was, err := c.GetBit(ctx, key, at).Result()
	if err != nil {
		return err
	}
	return c.SetBit(ctx, key, at, int(1-was)).Err()
}
