package gpu

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// memoryCopier stands in for a copy engine over ordinary memory. It checks what
// a real one could not: how much is in flight.
type memoryCopier struct {
	t     *testing.T
	pace  Pace
	gate  chan struct{} // a call ends when it gives one; nil: at once
	began chan int      // gets the bytes of each call submitted, if not nil

	mu     sync.Mutex
	flying [maxCalls]*cuda.Copies
	n      int
	calls  int
	after  []cuda.Counter
	fail   error
}

func (m *memoryCopier) submit(place int, c *cuda.Copies, after cuda.Counter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.flying[place] != nil {
		m.t.Error("a place was used twice")
	}
	if m.n++; m.n > m.pace.Calls {
		m.t.Errorf("%d calls in flight at a pace of %d", m.n, m.pace.Calls)
	}
	if c.Bytes > max(m.pace.CallBytes, maxPiece) {
		m.t.Errorf("a call of %d bytes at a pace of %d", c.Bytes, m.pace.CallBytes)
	}
	m.calls++
	m.flying[place] = c
	m.after = append(m.after, after)
	if m.began != nil {
		m.began <- c.Bytes
	}
	return nil
}

func (m *memoryCopier) wait(place, _ int) error {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	carryOut(m.flying[place])
	m.flying[place] = nil
	m.n--
	return nil
}

func (m *memoryCopier) plain(int) int { return 8 }

// stage is a lane with an engine of the given number of pages of 64 KB.
type stage struct {
	lane   *lane
	copier *memoryCopier
	port   *port
	memory []byte
	layout *Layout
}

const stageBlock = 64 << 10

func newStage(t *testing.T, toDevice bool, pages int, p Pace) *stage {
	t.Helper()
	s := &stage{copier: &memoryCopier{t: t, pace: p}, memory: make([]byte, pages*stageBlock)}
	s.lane = newLane(toDevice, s.copier, p)
	var err error
	const half = stageBlock / 2
	s.layout, err = NewLayout(pages, []Fragment{
		{Base: cuda.HostAddr(s.memory), Stride: half, Bytes: half},
		{Base: cuda.HostAddr(s.memory[pages*half:]), Stride: half, Bytes: half},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.port = &port{lane: s.lane, layout: s.layout}
	return s
}

func blocks(n int) (ts []Transfer) {
	for i := range n {
		ts = append(ts, Transfer{i, make([]byte, stageBlock)})
	}
	return ts
}

func (s *stage) page(i int) []byte {
	const half = stageBlock / 2
	second := len(s.memory)/2 + i*half
	return append(bytes.Clone(s.memory[i*half:][:half]), s.memory[second:][:half]...)
}

// No bulk work delays a demand load by more than what is in flight when it
// comes: with one call at a time, by one call.
func TestDemandWaitsForOneCallAtMost(t *testing.T) {
	histogram := map[int]int{}
	for _, calls := range []int{1, 2} {
		s := newStage(t, true, 512, Pace{Calls: calls, CallBytes: 8 * stageBlock})
		s.copier.gate, s.copier.began = make(chan struct{}), make(chan int, 1000)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.port.do(context.Background(), policy.Offload, blocks(512), 0); err != nil {
				t.Error(err)
			}
		})
		for range calls {
			<-s.copier.began
		}
		// Bulk work is under way. Each call that ends makes room for one more.
		end := func() (nextBytes int) {
			s.copier.gate <- struct{}{}
			return <-s.copier.began
		}
		for range 15 {
			demanded := make(chan error, 1)
			go func() { demanded <- s.port.do(context.Background(), policy.Demand, blocks(1), 0) }()
			trial.Await(t, "the demand is queued", func() bool {
				s.lane.mu.Lock()
				defer s.lane.mu.Unlock()
				return len(s.lane.queue[policy.Demand]) > 0
			})
			ended := 1
			for end() != stageBlock {
				ended++
			}
			waited := ended + calls - 1 // those that ended, and those still ahead of it
			histogram[waited]++
			if waited > calls {
				t.Errorf("%d calls at a time: a demand waited for %d", calls, waited)
			}
			for range calls {
				end()
			}
			if err := <-demanded; err != nil {
				t.Fatal(err)
			}
		}
		close(s.copier.gate)
		wg.Wait()
	}
	t.Logf("calls that a demand load waited for: %v", histogram)
}

// Many callers with everything that happens to them: at the end all bytes of
// the transfers that succeeded are there, and the lane is idle.
func TestLaneUnderRandomLoad(t *testing.T) {
	r := trial.Rand(t)
	for _, toDevice := range []bool{true, false} {
		pace := Pace{Calls: 1 + r.IntN(maxCalls), CallBytes: stageBlock << r.IntN(5)}
		const callers, pages = 8, 8 * 40
		s := newStage(t, toDevice, pages, pace)
		fillRandom(r, s.memory)
		var wg sync.WaitGroup
		for w := range callers {
			r := rand.New(rand.NewPCG(r.Uint64(), 1))
			wg.Go(func() {
				for i := range 60 {
					ts := blocks(1 + r.IntN(20))
					for j := range ts {
						ts[j].Page = w*40 + (i+j)%40 // pages of its own
						fillRandom(r, ts[j].Host[:256])
					}
					ctx, cancel := context.WithCancel(context.Background())
					if r.IntN(4) == 0 {
						go cancel()
					}
					err := s.port.do(ctx, policy.Priority(r.IntN(priorities)), ts, uint64(r.IntN(3)))
					cancel()
					if errors.Is(err, context.Canceled) {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					for _, one := range ts {
						if !bytes.Equal(s.page(one.Page), one.Host) {
							t.Errorf("page %d is not the block", one.Page)
						}
					}
				}
			})
		}
		wg.Wait()
		s.lane.mu.Lock()
		if s.port.requests != 0 || s.lane.inFlight > 0 && s.lane.next() != nil || s.lane.driving {
			t.Errorf("not idle: %d requests, %d calls in flight", s.port.requests, s.lane.inFlight)
		}
		s.lane.mu.Unlock()
	}
}

// A port that refuses fails what is queued and lets what is in flight end.
func TestRefusedPortDrains(t *testing.T) {
	s := newStage(t, false, 64, Pace{Calls: 1, CallBytes: stageBlock})
	s.copier.gate, s.copier.began = make(chan struct{}), make(chan int, 1000)
	other := &port{lane: s.lane, layout: s.layout}
	done, otherDone := make(chan error, 1), make(chan error, 1)
	go func() { done <- s.port.do(context.Background(), policy.Offload, blocks(64), 0) }()
	<-s.copier.began
	go func() { otherDone <- other.do(context.Background(), policy.Offload, blocks(3), 0) }()
	trial.Await(t, "the other is queued", func() bool {
		s.lane.mu.Lock()
		defer s.lane.mu.Unlock()
		return len(s.lane.queue[policy.Offload]) == 2
	})
	s.port.refuse(ErrGone)
	select {
	case err := <-done:
		t.Fatal("done while a call of it was in flight: ", err)
	default:
	}
	close(s.copier.gate)
	s.port.drain()
	if err := <-done; !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	if err := <-otherDone; err != nil {
		t.Errorf("the other engine's transfer ended with %v", err)
	}
	if err := s.port.do(context.Background(), policy.Demand, blocks(1), 0); !errors.Is(err, ErrGone) {
		t.Errorf("a refused port gave %v", err)
	}
	s.port.open(s.layout, 0)
	if err := s.port.do(context.Background(), policy.Demand, blocks(1), 0); err != nil {
		t.Errorf("an opened port gave %v", err)
	}
}

func TestCallsWaitForTheLatestStepOfTheirRequests(t *testing.T) {
	s := newStage(t, false, 8, Pace{Calls: 1, CallBytes: 8 * stageBlock})
	s.port.counter = 4096
	for _, step := range []uint64{0, 7} {
		if err := s.port.do(context.Background(), policy.Offload, blocks(1), step); err != nil {
			t.Fatal(err)
		}
	}
	if a := s.copier.after; a[0] != (cuda.Counter{}) || a[1] != (cuda.Counter{Addr: 4096, AtLeast: 7}) {
		t.Errorf("calls waited for %+v", a)
	}
}

func TestAFailedCallFailsItsRequestsOnly(t *testing.T) {
	s := newStage(t, true, 8, Pace{Calls: 1, CallBytes: 8 * stageBlock})
	s.copier.fail = errors.New("no")
	if err := s.port.do(context.Background(), policy.Demand, blocks(2), 0); !errors.Is(err, s.copier.fail) {
		t.Errorf("got %v", err)
	}
	s.copier.fail = nil
	if err := s.port.do(context.Background(), policy.Demand, blocks(2), 0); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]Transfer{{{-1, make([]byte, stageBlock)}}, {{8, make([]byte, stageBlock)}}, {{0, make([]byte, 10)}}} {
		if err := s.port.do(context.Background(), policy.Demand, bad, 0); err == nil {
			t.Errorf("page %d with a slot of %d bytes was moved", bad[0].Page, len(bad[0].Host))
		}
	}
}
