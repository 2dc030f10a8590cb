package cuda

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openContext(t *testing.T) *Context {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Skipf("needs a GPU: %v", err)
	}
	c, err := d.Context(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pinned is host memory that the copy engines reach.
func pinned(t *testing.T, c *Context, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Register(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Unregister(b), unix.Munmap(b)); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Whichever way the driver knows, the copies are the same.
func TestEveryMethodCopiesTheSame(t *testing.T) {
	c := openContext(t)
	t.Logf("the self-test chose %s; streams can wait: %v", c.Method(), c.CanWait())
	const fragment = 32 << 10
	host := pinned(t, c, 2*4*fragment)
	dev, err := c.Alloc(4 * fragment)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free(dev)
	s, err := c.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done, err := c.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	tried := 0
	for _, m := range []Method{Batch13, Batch128, Loop} {
		if !c.has(m) {
			t.Logf("%s: this driver does not have it", m)
			continue
		}
		tried++
		if err := s.trial(m, host, dev, fragment, done); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	if tried == 0 {
		t.Error("nothing was tried")
	}
}

// No call needs the thread of another: each of many goroutines, locked to a
// thread that never saw the driver, copies for itself.
func TestAnyThreadMayCall(t *testing.T) {
	c := openContext(t)
	host := pinned(t, c, 16<<16)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			b := host[i<<16:][:1<<16]
			for j := range b {
				b[j] = byte(i*31 + j>>8)
			}
			dev, err := c.Alloc(len(b))
			if err != nil {
				t.Error(err)
				return
			}
			s, err1 := c.NewStream()
			done, err2 := c.NewEvent()
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
				return
			}
			var down, up Copies
			down.Add(dev, HostAddr(b), len(b))
			up.Add(HostAddr(b), dev, len(b))
			err = s.Submit(&down, Counter{}, done)
			if err == nil {
				err = s.Sync()
			}
			clear(b)
			if err == nil {
				err = s.Submit(&up, Counter{}, done)
			}
			if err := errors.Join(err, done.Wait(0, time.Second), s.Close(), done.Close(), c.Free(dev)); err != nil {
				t.Error(err)
			}
			for j := range b {
				if b[j] != byte(i*31+j>>8) {
					t.Errorf("thread %d: byte %d is wrong", i, j)
					return
				}
			}
		})
	}
	wg.Wait()
}

// An event that does not happen is not waited for beyond the limit, and a
// counter that is reached lets it happen.
func TestCountersHoldAStream(t *testing.T) {
	c := openContext(t)
	if !c.CanWait() {
		t.Skip("this driver's streams cannot wait for counters")
	}
	counter, err := c.Alloc(8)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free(counter)
	s, err := c.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	control, err := c.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	done, err := c.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	var none Copies
	if err := errors.Join(control.WriteValue(counter, 1), control.Sync(), s.Submit(&none, Counter{counter, 3}, done)); err != nil {
		t.Fatal(err)
	}
	if err := done.Wait(0, 20*time.Millisecond); !errors.Is(err, ErrNotReady) {
		t.Fatalf("waited for 3, got %v at 1", err)
	}
	if err := errors.Join(control.WriteValue(counter, 4), control.Sync(), done.Wait(0, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsSayWhatFailed(t *testing.T) {
	c := openContext(t)
	err := c.Free(12345)
	var e *Error
	if !errors.As(err, &e) || e.Call != "cuMemFree" || e.Code == 0 || Lost(err) {
		t.Errorf("freeing nothing gave %v", err)
	}
	t.Log(err)
}

func TestWhichErrorsLoseTheContext(t *testing.T) {
	for code, lost := range map[int]bool{1: false, 2: false, 214: true, 400: false, 600: false, 700: true, 709: true, 710: true, 712: false, 716: true, 719: true, 801: false} {
		if err := error(&Error{Call: "x", Code: code}); Lost(err) != lost {
			t.Errorf("code %d: %v", code, !lost)
		}
	}
	if Lost(errors.New("other")) || Lost(nil) {
		t.Error("not the driver's errors")
	}
}
