package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

func TestMain(m *testing.M) {
	// go-redis's dialler of a server that was away ends a second after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

var (
	layout = kv.Hash{1}
	blk    = kv.Block{Hash: kv.Hash{2}, Parent: kv.Hash{3}}
)

func open(t *testing.T, url string, blockBytes int) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: url, TTL: time.Hour, BlockBytes: blockBytes, Fingerprint: layout, Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func random(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func TestBlocksComeBackAsTheyWere(t *testing.T) {
	srv := redistest.Start(t)
	for _, size := range []int{1, 100, chunkBytes, chunkBytes + 1, 3*chunkBytes - 5} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			s := open(t, srv.URL(), size)
			b := kv.Block{Hash: kv.Hash{9, byte(size), byte(size >> 8), byte(size >> 16)}, Parent: kv.Hash{8}}
			dst := make([]byte, size)
			if _, err := s.Get(t.Context(), b.Hash, dst); !errors.Is(err, ErrMiss) {
				t.Fatalf("get before put: %v, want ErrMiss", err)
			}
			src := random(size, 1)
			if there, err := s.Put(t.Context(), b, src); there || err != nil {
				t.Fatalf("put: %v, %v", there, err)
			}
			got, err := s.Get(t.Context(), b.Hash, dst)
			if err != nil || got != b || !bytes.Equal(dst, src) {
				t.Fatalf("get: %v, %v, equal %v", got, err, bytes.Equal(dst, src))
			}
			if there, err := s.Put(t.Context(), b, src); !there || err != nil {
				t.Fatalf("second put: %v, %v, want it to find the block", there, err)
			}
		})
	}
}

func TestBlocksOfAnotherLayoutAreInvisible(t *testing.T) {
	srv := redistest.Start(t)
	s := open(t, srv.URL(), 10)
	if _, err := s.Put(t.Context(), blk, random(10, 1)); err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Options{URL: srv.URL(), TTL: time.Hour, BlockBytes: 10, Fingerprint: kv.Hash{7}, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Get(t.Context(), blk.Hash, make([]byte, 10)); !errors.Is(err, ErrMiss) {
		t.Fatalf("get: %v, want ErrMiss", err)
	}
	if other.Name() == s.Name() {
		t.Fatal("both layouts have one store name")
	}
}

// Whatever is wrong with a stored block, it is a miss or known to be corrupt,
// and a corrupt one is deleted so that it is written anew.
func TestDamagedBlocksAreNeverServed(t *testing.T) {
	srv := redistest.Start(t)
	const size = chunkBytes + 100
	s := open(t, srv.URL(), size)
	src, dst := random(size, 1), make([]byte, size)
	key := s.key(blk.Hash)
	damage := func(name string, want error, do func(context.Context, redis.UniversalClient) error) {
		t.Helper()
		if _, err := s.Put(t.Context(), blk, src); err != nil {
			t.Fatal(err)
		}
		if err := do(t.Context(), s.client); err != nil {
			t.Fatal(err)
		}
		_, got := s.Get(t.Context(), blk.Hash, dst)
		if !errors.Is(got, want) {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
		if errors.Is(want, ErrCorrupt) {
			if n := s.client.Exists(t.Context(), key, key+":0", key+":1").Val(); n != 0 {
				t.Fatalf("%s: %d keys are left; %v", name, n, got)
			}
		}
	}
	set := func(k string, v []byte) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, c redis.UniversalClient) error { return c.Set(ctx, k, v, 0).Err() }
	}
	del := func(k string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, c redis.UniversalClient) error { return c.Del(ctx, k).Err() }
	}
	damage("header gone", ErrMiss, del(key))
	damage("chunk gone", ErrMiss, del(key+":1"))
	damage("chunk short", ErrCorrupt, set(key+":1", src[:50]))
	damage("chunk long", ErrCorrupt, set(key+":1", src[:200]))
	damage("chunk of other bytes", ErrCorrupt, set(key+":1", src[:100]))
	damage("header short", ErrCorrupt, set(key, []byte("short")))
	damage("header of another block", ErrCorrupt, set(key, header{kv.Block{Hash: kv.Hash{66}}, size, 0}.encode()))
}

func TestAnyFlippedBitOfTheHeaderIsSeen(t *testing.T) {
	h := header{blk, 77, 88}
	for bit := range 8 * headerBytes {
		b := h.encode()
		b[bit/8] ^= 1 << (bit % 8)
		if _, ok := parseHeader(b); ok {
			t.Fatalf("bit %d flipped: the header passes", bit)
		}
	}
	if got, ok := parseHeader(h.encode()); !ok || got != h {
		t.Fatalf("read back as %+v", got)
	}
}

func TestReadingRenewsTheTimeToLive(t *testing.T) {
	srv := redistest.Start(t)
	s := open(t, srv.URL(), 10)
	if _, err := s.Put(t.Context(), blk, random(10, 1)); err != nil {
		t.Fatal(err)
	}
	key := s.key(blk.Hash)
	renewed := func(what string, f func() error) {
		t.Helper()
		for _, k := range []string{key, key + ":0"} {
			s.client.Expire(t.Context(), k, time.Minute)
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{key, key + ":0"} {
			if ttl := s.client.TTL(t.Context(), k).Val(); ttl < 50*time.Minute {
				t.Fatalf("after %s %s lives for %v", what, k, ttl)
			}
		}
	}
	renewed("get", func() error { _, err := s.Get(t.Context(), blk.Hash, make([]byte, 10)); return err })
	renewed("put", func() error { _, err := s.Put(t.Context(), blk, random(10, 1)); return err })
}

func TestTheServerDiesStallsAndComesBack(t *testing.T) {
	srv := redistest.Start(t)
	s := open(t, srv.URL(), 1000)
	src, dst := random(1000, 1), make([]byte, 1000)
	if _, err := s.Put(t.Context(), blk, src); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	if _, err := s.Get(t.Context(), blk.Hash, dst); err == nil || errors.Is(err, ErrMiss) {
		t.Fatalf("get from a dead server: %v", err)
	}
	if _, err := s.Put(t.Context(), blk, src); err == nil {
		t.Fatal("put to a dead server succeeded")
	}
	srv.Run()
	if _, err := s.Get(t.Context(), blk.Hash, dst); !errors.Is(err, ErrMiss) {
		t.Fatalf("get from an empty server: %v, want ErrMiss", err)
	}
	if _, err := s.Put(t.Context(), blk, src); err != nil {
		t.Fatal(err)
	}
	resume := srv.Stall()
	start := time.Now()
	_, err := s.Get(t.Context(), blk.Hash, dst)
	if err == nil || errors.Is(err, ErrMiss) {
		t.Fatalf("get from a stalled server: %v", err)
	}
	if took := time.Since(start); took > 10*callTimeout {
		t.Fatalf("a stalled server held a call for %v", took)
	}
	resume()
	if b, err := s.Get(t.Context(), blk.Hash, dst); err != nil || b != blk || !bytes.Equal(dst, src) {
		t.Fatalf("get after the stall: %v %v", b, err)
	}
}

func TestAFullServerRefusesBlocks(t *testing.T) {
	srv := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	s := open(t, srv.URL(), chunkBytes)
	var err error
	for i := range byte(3) {
		if _, err = s.Put(t.Context(), kv.Block{Hash: kv.Hash{100 + i}}, random(chunkBytes, 1)); err != nil {
			break
		}
	}
	if err == nil || errors.Is(err, ErrMiss) {
		t.Fatalf("put to a full server: %v", err)
	}
}

func TestThePasswordGoesNowhere(t *testing.T) {
	const secret = "s3cret-w0rd"
	srv := redistest.Start(t, "--requirepass", secret)
	s := open(t, strings.Replace(srv.URL(), "unix://", "unix://:"+secret+"@", 1), 10)
	if _, err := s.Put(t.Context(), blk, random(10, 1)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.Name(), secret) {
		t.Fatalf("name %q", s.Name())
	}
	wrong := open(t, strings.Replace(srv.URL(), "unix://", "unix://:not-"+secret+"@", 1), 10)
	_, err := wrong.Get(t.Context(), blk.Hash, make([]byte, 10))
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Fatalf("with the wrong password: %v", err)
	}
	for _, bad := range []string{"http://u:" + secret + "@h", "redis://u:" + secret + "@h:99999999/%zz", ":" + secret, "redis://:" + secret + "@h/notadb", "redis://:" + secret + "@h/2?cluster=true", "redis://:" + secret + "@h?what=" + secret} {
		_, err := Open(t.Context(), Options{URL: bad})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Fatalf("Open: %v", err)
		}
	}
	for url, want := range map[string]string{
		"redis://user:" + secret + "@h:1/2":             "redis://h:1/2",
		"redis://h":                                     "redis://h:6379/0",
		"rediss://:" + secret + "@h:7":                  "rediss://h:7/0",
		"unix://u:" + secret + "@/a/b?db=3":             "unix:///a/b?db=3",
		"redis://:" + secret + "@h:1?cluster=true":      "redis://h:1/0",
		"redis://:" + secret + "@h:1?addr=i:2&addr=j:3": "redis://h:1,i:2,j:3/0",
		"redis://:" + secret + "@h:1/4?master_name=m&addr=i:2&sentinel_password=" + secret: "redis://h:1,i:2/4?master_name=m",
	} {
		if _, got, err := parseURL(url); err != nil || got != want {
			t.Errorf("%s is named %q (%v), want %q", url, got, err, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(header{blk, 77, 88}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parseHeader(b); ok && !bytes.Equal(h.encode(), b) {
			t.Fatalf("% x is read as %+v, which is written differently", b, h)
		}
	})
}

// FuzzURL: no text that Open refuses shows up in the error.
func FuzzURL(f *testing.F) {
	f.Add("redis://u:p@h/1")
	f.Add("unix://u:p@/a?db=x")
	f.Fuzz(func(t *testing.T, u string) {
		if err := CheckURL(u); err != nil && err.Error() != errURL.Error() {
			t.Fatalf("%q: %v", u, err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	srv := redistest.Start(b)
	for _, size := range []int{64 << 10, 368640, 2 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, err := Open(b.Context(), Options{URL: srv.URL(), TTL: time.Hour, BlockBytes: size, Fingerprint: layout, Connections: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			src := random(size, 1)
			blk := kv.Block{Hash: kv.Hash{byte(size >> 16), byte(size >> 8)}}
			if _, err := s.Put(b.Context(), blk, src); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(b.Context(), blk.Hash, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
