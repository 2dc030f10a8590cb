package peer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is what a server lends.
type shelf struct {
	mu     sync.Mutex
	blocks map[kv.Hash][]byte
	lent   int // now
}

func (s *shelf) lend(h kv.Hash) ([]byte, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blocks[h]
	if !ok {
		return nil, nil
	}
	s.lent++
	return b, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lent--
	}
}

func (s *shelf) put(n, size int) (hashes []kv.Hash) {
	s.blocks = map[kv.Hash][]byte{}
	for i := range n {
		h := kv.Hash{1, byte(i), byte(i >> 8)}
		b := make([]byte, size)
		r := rand.NewChaCha8([32]byte{byte(i), 7})
		_, _ = r.Read(b)
		s.blocks[h] = b
		hashes = append(hashes, h)
	}
	return hashes
}

// options overlap moving and summing for sizes that are even, so that both ways
// are tested on every machine with few cores.
func options(size int) Options {
	return Options{Fingerprint: kv.Hash{9}, BlockBytes: size, Secret: "s3cret", overlap: size%2 == 0}
}

func serve(t *testing.T, o Options, s *shelf) *Server {
	t.Helper()
	srv, err := Listen("127.0.0.1:0", o, s.lend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = srv.Close()
		if s.lent != 0 {
			t.Errorf("%d blocks are still lent after Close", s.lent)
		}
	})
	return srv
}

func client(t *testing.T, address string, o Options) *Client {
	c := NewClient(address, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// fetch pulls blocks and returns how each ended.
func fetch(ctx context.Context, c *Client, size int, hashes ...kv.Hash) (got [][]byte, ends []error, err error) {
	var bs []Block
	for _, h := range hashes {
		bs = append(bs, Block{h, make([]byte, size)})
	}
	err = c.Fetch(ctx, bs, func(i int, err error) {
		ends = append(ends, err)
		got = append(got, bs[i].Dst)
	})
	return got, ends, err
}

func TestBlocksComeAsTheyWere(t *testing.T) {
	for _, size := range []int{1, 5000, 5001, 100_000, slowBytes + 17, slowBytes + 18} {
		s := &shelf{}
		hashes := s.put(5, size)
		srv := serve(t, options(size), s)
		c := client(t, srv.Addr(), options(size))
		hashes = append(hashes[:3:3], kv.Hash{66}, hashes[4])
		for range 3 { // over the same connection
			got, ends, err := fetch(t.Context(), c, size, hashes...)
			if err != nil || len(ends) != 5 {
				t.Fatalf("%v, %d blocks ended", err, len(ends))
			}
			for i, h := range hashes {
				switch want := s.blocks[h]; {
				case want == nil && !errors.Is(ends[i], ErrMiss):
					t.Fatalf("a block that is not there: %v", ends[i])
				case want != nil && (ends[i] != nil || !bytes.Equal(got[i], want)):
					t.Fatalf("block %d: %v, equal %v", i, ends[i], bytes.Equal(got[i], want))
				}
			}
		}
		want := ServerStats{Connections: 1, Blocks: 12, Absent: 3, Bytes: uint64(12 * size)}
		for deadline := time.Now().Add(30 * time.Second); srv.Stats() != want; time.Sleep(time.Millisecond) { // counted once they are sent
			if time.Now().After(deadline) {
				t.Fatalf("%+v, want %+v", srv.Stats(), want)
			}
		}
	}
}

func TestMoreThanOneRequestHolds(t *testing.T) {
	s := &shelf{}
	hashes := s.put(MaxRequest+3, 8)
	srv := serve(t, options(8), s)
	got, ends, err := fetch(t.Context(), client(t, srv.Addr(), options(8)), 8, hashes...)
	if err != nil || len(ends) != len(hashes) || !bytes.Equal(got[MaxRequest+2], s.blocks[hashes[MaxRequest+2]]) {
		t.Fatalf("%d ended: %v", len(ends), err)
	}
}

func TestOnlyThoseWithTheSecretAndTheLayoutPull(t *testing.T) {
	s := &shelf{}
	h := s.put(1, 100)[0]
	srv := serve(t, options(100), s)
	refused := func(what, why string, change func(*Options)) {
		t.Helper()
		o := options(100)
		change(&o)
		_, ends, err := fetch(t.Context(), client(t, srv.Addr(), o), o.BlockBytes, h)
		if err == nil || len(ends) != 0 || !strings.Contains(err.Error(), why) {
			t.Fatalf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), o.Secret) {
			t.Fatalf("the error holds the secret: %v", err)
		}
	}
	refused("other secret", "secret", func(o *Options) { o.Secret = "guess" })
	refused("other layout", "layout", func(o *Options) { o.Fingerprint = kv.Hash{8} })
	refused("other block size", "layout", func(o *Options) { o.BlockBytes = 101 })
	// One who does not ask for the server's proof fails with its own.
	c, err := net.Dial("tcp", srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := options(100)
	_, _ = c.Write(hello{version: version, blockBytes: 100, fingerprint: o.Fingerprint}.encode())
	_, _ = c.Write(make([]byte, proofBytes))
	_, _ = c.Write(encodeRequest(nil, []kv.Hash{h}))
	if n, _ := readAll(c); n != answerBytes {
		t.Fatalf("without the secret %d bytes came, want the %d of the answer alone", n, answerBytes)
	}
	if st := srv.Stats(); st.Blocks != 0 || st.Refused < 3 {
		t.Fatalf("%+v", st)
	}
}

func readAll(c net.Conn) (n int, err error) {
	b := make([]byte, 4096)
	for err == nil {
		var m int
		m, err = c.Read(b)
		n += m
	}
	return n, err
}

// impostor shakes hands as a server does and then says what it likes.
func impostor(t *testing.T, o Options, say func(c net.Conn, hashes []kv.Hash)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				s := &Server{o: o.withDefaults()}
				if s.greet(c, true) != nil {
					return
				}
				for {
					hashes, _, err := readRequest(c, nil, nil)
					if err != nil {
						return
					}
					say(c, hashes)
				}
			})
		}
	})
	return l.Addr().String()
}

// block is a whole frame.
func block(h kv.Hash, data []byte, length int) []byte {
	b := make([]byte, frameBytes)
	frame{verdict: granted, length: uint64(length), hash: h, sum: xxh3.Hash(data)}.encode(b)
	return append(b, data...)
}

func TestAPeerThatLies(t *testing.T) {
	const size = 1000
	o := options(size)
	o.Stall = 500 * time.Millisecond
	data, h := bytes.Repeat([]byte{3}, size), kv.Hash{1}
	lie := func(name string, corrupt bool, say func(c net.Conn)) {
		t.Helper()
		c := client(t, impostor(t, o, func(c net.Conn, _ []kv.Hash) { say(c) }), o)
		start := time.Now()
		_, ends, err := fetch(t.Context(), c, size, h)
		switch {
		case corrupt && (err != nil || len(ends) != 1 || !errors.Is(ends[0], ErrCorrupt)):
			t.Fatalf("%s: %v, %v; want a corrupt block", name, ends, err)
		case !corrupt && (err == nil || len(ends) != 0):
			t.Fatalf("%s: %v, %v; want an error and no block", name, ends, err)
		case time.Since(start) > 10*time.Second:
			t.Fatalf("%s: held us for %v", name, time.Since(start))
		}
	}
	write := func(b []byte) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write(b) } }
	wrong := block(h, data, size)
	wrong[frameBytes+77] ^= 4
	lie("wrong bytes", true, write(wrong))
	lie("too short", false, write(block(h, data[:10], 10)))
	lie("too long", false, write(block(h, append(data, data...), 2*size)))
	lie("endless", false, write(block(h, data, 1<<62)))
	lie("another block", false, write(block(kv.Hash{2}, data, size)))
	lie("rubbish", false, write(bytes.Repeat([]byte("rubbish "), 100)))
	lie("stalls at once", false, func(net.Conn) {})
	lie("stalls in the middle", false, write(block(h, data, size)[:500]))
	lie("hangs up in the middle", false, func(c net.Conn) { _, _ = c.Write(wrong[:500]); c.Close() })
}

func TestAPullIsCalledOff(t *testing.T) {
	const size = 1000
	asked := make(chan struct{}, 1)
	c := client(t, impostor(t, options(size), func(net.Conn, []kv.Hash) { asked <- struct{}{} }), options(size))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, ends, err := fetch(ctx, c, size, kv.Hash{1}); !errors.Is(err, context.Canceled) || len(ends) != 0 {
		t.Fatalf("%v, %v", ends, err)
	}
}

func TestAServerThatStartedAnewIsPulledFrom(t *testing.T) {
	s := &shelf{}
	h := s.put(1, 100)[0]
	first, err := Listen("127.0.0.1:0", options(100), s.lend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, first.Addr(), options(100))
	if _, ends, err := fetch(t.Context(), c, 100, h); err != nil || ends[0] != nil {
		t.Fatal(ends, err)
	}
	first.Close()
	if _, _, err := fetch(t.Context(), c, 100, h); err == nil {
		t.Fatal("a closed server answered")
	}
	again, err := Listen(first.Addr(), options(100), s.lend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("the port is taken: %v", err)
	}
	defer again.Close()
	for range 2 {
		if _, ends, err := fetch(t.Context(), c, 100, h); err != nil || ends[0] != nil {
			t.Fatal(ends, err)
		}
	}
}

// What a server lends is bounded by its connections, and those beyond are told.
func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	s := &shelf{}
	h := s.put(1, 100)[0]
	srv := serve(t, options(100), s)
	for range maxConns {
		c, err := net.Dial("tcp", srv.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); srv.Stats().Connections < maxConns; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", srv.Stats())
		}
	}
	if _, _, err := fetch(t.Context(), client(t, srv.Addr(), options(100)), 100, h); err == nil || !strings.Contains(err.Error(), "connections") {
		t.Fatal(err)
	}
}

// flipConn flips one bit of what passes.
type flipConn struct {
	net.Conn
	read, wrote int64 // bytes so far
	in, out     int64 // bit to flip; <0: none
	fired       *atomic.Bool
}

func (c *flipConn) flip(b []byte, at, bit int64) {
	if i := bit/8 - at; bit >= 0 && i >= 0 && i < int64(len(b)) {
		b[i] ^= 1 << (bit % 8)
		c.fired.Store(true)
	}
}

func (c *flipConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.flip(b[:n], c.read, c.in)
	c.read += int64(n)
	return n, err
}

func (c *flipConn) Write(b []byte) (int, error) {
	mine := bytes.Clone(b)
	c.flip(mine, c.wrote, c.out)
	n, err := c.Conn.Write(mine)
	c.wrote += int64(n)
	return n, err
}

// Any one bit that flips on the way, in either direction, from the first byte of
// the handshake to the last of a block, is noticed, and nothing is landed as
// good. KVASIR_FLIPS sets their number.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	const size = 300
	flips := trial.Size(t, "KVASIR_FLIPS", 300)
	r, s := trial.Rand(t), &shelf{}
	hashes := s.put(2, size)
	srv := serve(t, options(size), s)
	const sent = helloBytes + proofBytes + requestBytes + 2*16 + sumBytes
	const received = answerBytes + 2*(frameBytes+size)
	for range flips {
		var fired atomic.Bool
		f := &flipConn{in: -1, out: -1, fired: &fired}
		if at := r.Int64N(8 * (sent + received)); at < 8*sent {
			f.out = at
		} else {
			f.in = at - 8*sent
		}
		o := options(size)
		o.overlap = r.IntN(2) == 0
		o.wrap = func(c net.Conn) net.Conn { f.Conn = c; return f }
		c := NewClient(srv.Addr(), o)
		got, ends, err := fetch(t.Context(), c, size, hashes...)
		c.Close()
		good := 0
		for i, end := range ends {
			if end == nil {
				good++
				if !bytes.Equal(got[i], s.blocks[hashes[i]]) {
					t.Fatalf("in %d out %d: wrong bytes were landed as good", f.in, f.out)
				}
			}
		}
		if !fired.Load() || good == 2 && err == nil {
			t.Fatalf("bit in %d, out %d: fired %v, yet both blocks are good: %v", f.in, f.out, fired.Load(), err)
		}
	}
	t.Logf("%d flips, each noticed", flips)
}

func TestOverTLS(t *testing.T) {
	s := &shelf{}
	h := s.put(1, 50005)[0]
	o := options(50005)
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	o.TLS = &tls.Config{RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv := serve(t, o, s)
	got, ends, err := fetch(t.Context(), client(t, srv.Addr(), o), o.BlockBytes, h)
	if err != nil || ends[0] != nil || !bytes.Equal(got[0], s.blocks[h]) {
		t.Fatal(ends, err)
	}
	o.TLS = nil
	if _, _, err := fetch(t.Context(), client(t, srv.Addr(), o), o.BlockBytes, h); err == nil {
		t.Fatal("without TLS a block came")
	}
}

func FuzzWire(f *testing.F) {
	f.Add(hello{version, 7, kv.Hash{1}, nonce{2}}.encode())
	f.Add(answer{version: version, verdict: granted}.encode())
	f.Add(encodeRequest(nil, []kv.Hash{{1}, {2}}))
	fr := make([]byte, frameBytes)
	frame{granted, 5, kv.Hash{1}, 6}.encode(fr)
	f.Add(fr)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHello(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Fatalf("%x is read as %+v", b, h)
		}
		if a, err := parseAnswer(b); err == nil && !bytes.Equal(a.encode(), b) {
			t.Fatalf("%x is read as %+v", b, a)
		}
		if hashes, _, err := readRequest(bytes.NewReader(b), nil, nil); err == nil {
			if back := encodeRequest(nil, hashes); !bytes.HasPrefix(b, back) {
				t.Fatalf("%x is read as %v", b, hashes)
			}
		}
		if fr, err := parseFrame(b); err == nil {
			back := make([]byte, frameBytes)
			if fr.encode(back); !bytes.Equal(back, b) {
				t.Fatalf("%x is read as %+v", b, fr)
			}
		}
	})
}
