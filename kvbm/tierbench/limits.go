package tierbench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/kvbm/host"
)

const (
	// Transfers in flight at a limit, as many as the manager's links have.
	fileWorkers = 4
	sockets     = 4
	chunkBytes  = 2 << 20
	rawPrefix   = "kvasir-bench-raw:"
)

// each calls do for every block, from the given number of goroutines.
func each(blocks, workers int, do func(worker, block int) error) error {
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < blocks && errs[w] == nil; i += workers {
				errs[w] = do(w, i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// memoryLimit copies between two mappings.
type memoryLimit struct{ a, b *host.Memory }

func newMemoryLimit(blocks, blockBytes int) (limit, error) {
	a, err := host.Map(blocks, blockBytes)
	if err != nil {
		return nil, err
	}
	b, err := host.Map(blocks, blockBytes)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &memoryLimit{a, b}, nil
}

func (l *memoryLimit) name() string      { return "memcpy, one thread" }
func (l *memoryLimit) read(n int) error  { return l.copy(l.a, l.b, n) }
func (l *memoryLimit) write(n int) error { return l.copy(l.b, l.a, n) }
func (l *memoryLimit) close() error      { return errors.Join(l.a.Close(), l.b.Close()) }

func (l *memoryLimit) copy(to, from *host.Memory, n int) error {
	for i := range n {
		copy(to.Slot(i), from.Slot(i))
	}
	return nil
}

// fileLimit reads and writes a plain file, with O_DIRECT where there is any.
type fileLimit struct {
	f      *os.File
	mem    *host.Memory
	direct bool
}

func newFileLimit(dir string, blocks, blockBytes int) (limit, error) {
	path := filepath.Join(dir, "raw")
	l := &fileLimit{direct: true}
	var err error
	if l.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600); errors.Is(err, unix.EINVAL) {
		l.direct = false
		l.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if l.mem, err = host.Map(blocks, blockBytes); err != nil {
		return nil, errors.Join(err, l.f.Close())
	}
	return l, nil
}

func (l *fileLimit) name() string {
	if l.direct {
		return fmt.Sprintf("pread and pwrite with O_DIRECT, %d threads", fileWorkers)
	}
	return fmt.Sprintf("pread and pwrite, %d threads", fileWorkers)
}

func (l *fileLimit) slot(i int) ([]byte, int64) {
	b := l.mem.Slot(i)
	return b[:cap(b)], int64(i) * int64(cap(b))
}

func (l *fileLimit) read(n int) error {
	return each(n, fileWorkers, func(_, i int) error {
		b, at := l.slot(i)
		_, err := l.f.ReadAt(b, at)
		return err
	})
}

func (l *fileLimit) write(n int) error {
	return each(n, fileWorkers, func(_, i int) error {
		b, at := l.slot(i)
		_, err := l.f.WriteAt(b, at)
		return err
	})
}

func (l *fileLimit) close() error { return errors.Join(l.f.Close(), l.mem.Close()) }

// socketLimit speaks just enough of Redis' protocol to set and get as many
// values of the same size as the tier.
type socketLimit struct {
	conns  []net.Conn
	in     []*bufio.Reader
	mem    *host.Memory
	chunks int
	value  int
}

func newSocketLimit(url string, blocks, blockBytes int) (_ limit, err error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("the Redis URL cannot be read")
	}
	if opts.TLSConfig != nil || opts.Password != "" {
		return nil, errors.New("the bare socket has neither TLS nor passwords; measure a Redis without them")
	}
	value := min(blockBytes, chunkBytes)
	l := &socketLimit{value: value, chunks: (blockBytes + value - 1) / value}
	if l.mem, err = host.Map(blocks*l.chunks, value); err != nil {
		return nil, err
	}
	for range sockets {
		c, err := net.Dial(opts.Network, opts.Addr)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.conns = append(l.conns, c)
		l.in = append(l.in, bufio.NewReader(c))
	}
	return l, nil
}

func (l *socketLimit) name() string { return fmt.Sprintf("bare socket, %d connections", sockets) }

func (l *socketLimit) key(i int) string { return rawPrefix + strconv.Itoa(i) }

func (l *socketLimit) write(n int) error {
	return each(n*l.chunks, sockets, func(w, i int) error {
		key := l.key(i)
		head := fmt.Sprintf("*5\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n", len(key), key, l.value)
		tail := "\r\n$2\r\nEX\r\n$3\r\n300\r\n"
		bufs := net.Buffers{[]byte(head), l.mem.Slot(i), []byte(tail)}
		if _, err := bufs.WriteTo(l.conns[w]); err != nil {
			return err
		}
		return l.expect(w, "+OK")
	})
}

func (l *socketLimit) read(n int) error {
	return each(n*l.chunks, sockets, func(w, i int) error {
		key := l.key(i)
		if _, err := fmt.Fprintf(l.conns[w], "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key); err != nil {
			return err
		}
		if err := l.expect(w, fmt.Sprintf("$%d", l.value)); err != nil {
			return err
		}
		if _, err := io.ReadFull(l.in[w], l.mem.Slot(i)); err != nil {
			return err
		}
		return l.expect(w, "")
	})
}

func (l *socketLimit) expect(w int, want string) error {
	line, err := l.in[w].ReadString('\n')
	if got := strings.TrimRight(line, "\r\n"); err == nil && got != want {
		err = fmt.Errorf("the server says %q, want %q", got, want)
	}
	return err
}

func (l *socketLimit) close() error {
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, l.mem.Close())...)
}
