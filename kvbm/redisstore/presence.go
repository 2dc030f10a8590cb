package redisstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// scanCount is how many keys the server looks at in one step of a Discover.
const scanCount = 1000

// Discover finds the blocks that are stored, by their header keys: whoever wrote
// them, and however long ago. found is called with a few at a time, from one
// goroutine at a time, and ends it by returning false.
func (s *Store) Discover(ctx context.Context, found func([]kv.Block) (goOn bool)) error {
	var mu sync.Mutex // a cluster's masters are scanned at the same time
	onNode := func(ctx context.Context, node redis.Cmdable) error {
		for cursor := uint64(0); ; {
			// Chunks' keys do not end with the brace.
			keys, next, err := node.Scan(ctx, cursor, s.prefix+"{*}", scanCount).Result()
			if err != nil {
				return err
			}
			bs, err := s.headers(ctx, keys)
			if err != nil {
				return err
			}
			mu.Lock()
			goOn := found(bs)
			mu.Unlock()
			if cursor = next; cursor == 0 || !goOn {
				return nil
			}
		}
	}
	if c, ok := s.client.(*redis.ClusterClient); ok {
		return s.wrap("scan", c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return onNode(ctx, node) }))
	}
	return s.wrap("scan", onNode(ctx, s.client))
}

// headers reads blocks' names from their header keys. What is no header, or
// another's, is left out: it is found to be corrupt when it is read.
func (s *Store) headers(ctx context.Context, keys []string) (bs []kv.Block, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	for _, key := range keys {
		pipe.Get(ctx, key)
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !answered(err) {
		return nil, err
	}
	for i, cmd := range cmds {
		raw, err := cmd.(*redis.StringCmd).Bytes()
		if err != nil {
			continue
		}
		if h, ok := parseHeader(raw); ok && h.length == uint64(s.blockBytes) && s.key(h.block.Hash) == keys[i] {
			bs = append(bs, h.block)
		}
	}
	return bs, nil
}

// answered reports whether an error is the server's answer to a command, so
// that the connection is fine.
func answered(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && !strings.HasPrefix(e.Error(), "LOADING")
}

// Lives says for each block how much longer it will be kept; 0: it is not there.
// One without an end is said to live for the store's own time.
func (s *Store) Lives(ctx context.Context, hashes []kv.Hash) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.client.Pipeline()
	for _, h := range hashes {
		pipe.PTTL(ctx, s.key(h))
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return nil, s.wrap("pttl", err)
	}
	lives := make([]time.Duration, len(hashes))
	for i, cmd := range cmds {
		switch left := cmd.(*redis.DurationCmd).Val(); {
		case left > 0:
			lives[i] = left
		case left == -1:
			lives[i] = s.ttl
		}
	}
	return lives, nil
}
