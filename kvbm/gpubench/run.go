package gpubench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/tierbench"
)

const (
	benchBlock = 2 << 20
	benchSlots = 256
	poolPages  = 2048
	poolBytes  = poolPages * benchBlock
)

// Options say what to measure of a GPU.
type Options struct {
	GPU    int
	Window time.Duration // of one figure; 0: 800 ms
	// Engine is the command that calls ServeEngine with the socket.
	Engine func(socket string) *exec.Cmd
}

// Report is what was measured.
type Report struct {
	GPU       string    `json:"gpu"`
	CUDA      string    `json:"cuda"`
	Copies    string    `json:"copies"` // how calls are submitted
	Cases     []Case    `json:"cases"`
	Latencies []Latency `json:"latencies"`
	Verified  int64     `json:"verified_bytes"`
}

// Case is one kind of transfer beside one load of the engine.
type Case struct {
	Fragment  int     `json:"fragment_bytes"`
	Direction string  `json:"direction"` // d2h, h2d or both
	Engine    string  `json:"engine"`
	Rate      float64 `json:"gb_per_s"`
	Limit     float64 `json:"limit_gb_per_s"` // copies of 256 MB beside an idle engine
	Ratio     float64 `json:"ratio"`
	// Slowdown is how much the engine's steps per second fell.
	Slowdown float64 `json:"engine_slowdown"`
	CPU      float64 `json:"cpu_s_per_gb"`
	LimitCPU float64 `json:"limit_cpu_s_per_gb"`
}

// Latency is that of single blocks of 2 MB to the GPU, at random times.
type Latency struct {
	Engine string `json:"engine"`
	Beside string `json:"beside"`
	// Raw is that of a plain copy of as many bytes, in turn with the loads.
	Raw bool    `json:"raw"`
	N   int     `json:"n"`
	P50 float64 `json:"p50_us"`
	P90 float64 `json:"p90_us"`
	P99 float64 `json:"p99_us"`
	Max float64 `json:"max_us"`
}

// directions, as bits.
const (
	d2h = 1 << iota
	h2d
)

var directionNames = map[int]string{d2h: "d2h", h2d: "h2d", d2h | h2d: "both"}

// bench is a run under way.
type bench struct {
	o        Options
	dev      *gpu.Device
	reg      gpu.Registration
	conn     *net.UnixConn
	in       *json.Decoder
	cmd      *exec.Cmd
	dir      string
	from, to *host.Memory // loads read from it, saves write to it
	pages    []int        // the first benchSlots are loaded, the next ones saved
	limits   *rawCopies
	report   *Report
}

// Run measures the transfers between a GPU and host slots, beside an
// engine in another process.
func Run(ctx context.Context, o Options) (_ Report, err error) {
	if o.Window == 0 {
		o.Window = 800 * time.Millisecond
	}
	r := Report{}
	b := &bench{o: o, report: &r}
	if err := b.open(ctx); err != nil {
		return r, errors.Join(err, b.close())
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, c := range []struct {
		fragment int
		engines  []string
	}{
		{2 << 20, []string{Idle, Products, Decode}}, {64 << 10, []string{Idle, Products, Decode}},
		{32 << 10, []string{Idle, Products}}, {16 << 10, []string{Idle, Products}},
	} {
		if err := b.layout(ctx, c.fragment, c.engines); err != nil {
			return r, err
		}
	}
	for _, load := range []string{Idle, Products, Decode} {
		if err := b.latencies(ctx, load); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Tier is the report of the gpu tier as other tiers have it: 2 MB blocks
// beside an idle engine, read from the GPU and written to it.
func (r Report) Tier() (t tierbench.TierReport) {
	t = tierbench.TierReport{Tier: kv.GPU, Limit: "copies of 256 MB, one at a time"}
	for _, c := range r.Cases {
		if c.Fragment != benchBlock || c.Engine != Idle {
			continue
		}
		switch c.Direction {
		case directionNames[d2h]:
			t.Read, t.LimitRead, t.RatioRead, t.CPURead, t.LimitCPURead = c.Rate, c.Limit, c.Ratio, c.CPU, c.LimitCPU
		case directionNames[h2d]:
			t.Write, t.LimitWrite, t.RatioWrite, t.CPUWrite, t.LimitCPUWrite = c.Rate, c.Limit, c.Ratio, c.CPU, c.LimitCPU
		}
	}
	for _, l := range r.Latencies {
		as := tierbench.Latency{P50: l.P50, P90: l.P90, P99: l.P99, Max: l.Max}
		switch {
		case l.Engine != Idle:
		case l.Beside == besideNothing && l.Raw:
			t.LimitLoad = as
		case l.Beside == besideNothing:
			t.Load = as
		case l.Beside == besideOffload && !l.Raw:
			t.LoadBeside = as
		}
	}
	return t
}

func (b *bench) open(ctx context.Context) (err error) {
	d, err := cuda.Open()
	if err != nil {
		return err
	}
	devices, err := d.Devices()
	if err != nil {
		return err
	}
	if b.o.GPU >= len(devices) {
		return fmt.Errorf("there is no GPU %d, only %d", b.o.GPU, len(devices))
	}
	b.report.GPU = devices[b.o.GPU].Name
	major, minor, err := d.Version()
	if err != nil {
		return err
	}
	b.report.CUDA = fmt.Sprintf("%d.%d", major, minor)
	if b.dev, err = gpu.Open(d, b.o.GPU, gpu.Options{}); err != nil {
		return err
	}
	b.report.Copies = b.dev.Context().Method().String()
	if err := b.openEngine(ctx); err != nil {
		return err
	}
	if b.from, err = host.Map(benchSlots, benchBlock); err != nil {
		return err
	}
	if b.to, err = host.Map(benchSlots, benchBlock); err != nil {
		return err
	}
	all := b.from.All()
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(all); i += 8 {
		binary.LittleEndian.PutUint64(all[i:], r.Uint64())
	}
	clear(b.to.All())
	b.dev.Pin(all, benchBlock)
	b.dev.Pin(b.to.All(), benchBlock)
	b.pages = r.Perm(poolPages)[:2*benchSlots]
	b.limits, err = newRawCopies(b.dev.Context())
	return err
}

func (b *bench) openEngine(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "kvasir-bench-"); err != nil {
		return err
	}
	socket := filepath.Join(b.dir, "engine.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	b.cmd = b.o.Engine(socket)
	if b.cmd.Stderr == nil {
		b.cmd.Stderr = os.Stderr
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	if err := l.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if b.conn, err = l.AcceptUnix(); err != nil {
		return fmt.Errorf("the engine process did not come: %w", err)
	}
	b.in = json.NewDecoder(b.conn)
	b.reg, err = gpu.Receive(b.conn)
	return err
}

func (b *bench) close() error {
	var errs []error
	if b.conn != nil {
		errs = append(errs, b.conn.Close())
	}
	if b.cmd != nil && b.cmd.Process != nil {
		errs = append(errs, b.cmd.Wait())
	}
	if b.limits != nil {
		errs = append(errs, b.limits.close())
	}
	if b.dev != nil {
		errs = append(errs, b.dev.Close())
	}
	for _, m := range []*host.Memory{b.from, b.to} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// tell gives the engine an order and returns its progress.
func (b *bench) tell(load string) (p progress, err error) {
	if err := json.NewEncoder(b.conn).Encode(order{load}); err != nil {
		return p, err
	}
	if err := b.in.Decode(&p); err != nil {
		return p, err
	}
	if p.Err != "" {
		err = errors.New("the engine: " + p.Err)
	}
	return p, err
}

// layout measures all cases of one fragment size.
func (b *bench) layout(ctx context.Context, fragment int, engines []string) error {
	reg := b.reg
	reg.Fragments = nil
	region := poolPages * fragment
	for i := range benchBlock / fragment {
		reg.Fragments = append(reg.Fragments, gpu.Place{Offset: uint64(i * region), Stride: uint64(fragment), Bytes: fragment})
	}
	e, err := b.dev.Attach(reg)
	if err != nil {
		return err
	}
	defer e.Close()
	// Both halves of the pages hold the blocks of from, and are checked.
	if err := b.fillPages(ctx, e, fragment); err != nil {
		return err
	}
	for _, load := range engines {
		for _, direction := range []int{d2h, h2d, d2h | h2d} {
			c, err := b.measure(ctx, e, load, direction)
			if err == nil {
				err = b.verify(fragment, direction)
			}
			if err != nil {
				return fmt.Errorf("fragments of %d, %s, engine %s: %w", fragment, directionNames[direction], load, err)
			}
			c.Fragment = fragment
			b.report.Cases = append(b.report.Cases, c)
		}
	}
	return nil
}

func (b *bench) transfers(m *host.Memory, pages []int) []gpu.Transfer {
	ts := make([]gpu.Transfer, benchSlots)
	for i := range ts {
		ts[i] = gpu.Transfer{Page: pages[i], Host: m.Slot(i)}
	}
	return ts
}

func (b *bench) fillPages(ctx context.Context, e *gpu.Engine, fragment int) error {
	for _, pages := range [][]int{b.pages[:benchSlots], b.pages[benchSlots:]} {
		if err := e.Load(ctx, policy.Demand, b.transfers(b.from, pages)); err != nil {
			return err
		}
		if err := b.readBack(fragment, pages); err != nil {
			return err
		}
		if err := b.compare(); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what the last measurement moved with what it should be.
func (b *bench) verify(fragment, direction int) error {
	if direction&d2h != 0 {
		if err := b.compare(); err != nil {
			return err
		}
	}
	if direction&h2d != 0 {
		if err := b.readBack(fragment, b.pages[:benchSlots]); err != nil {
			return err
		}
		return b.compare()
	}
	return nil
}

// readBack reads pages fragment by fragment with plain copies, knowing only
// where fragments are, not how the lanes copy them.
func (b *bench) readBack(fragment int, pages []int) error {
	m, err := b.dev.Context().Import(b.reg.Memories[0])
	if err != nil {
		return err
	}
	defer m.Close()
	clear(b.to.All())
	for i := range benchSlots {
		var c cuda.Copies
		for j := range benchBlock / fragment {
			c.Add(cuda.HostAddr(b.to.Slot(i)[j*fragment:]), m.Addr()+uint64(j*poolPages*fragment+pages[i]*fragment), fragment)
		}
		if err := b.limits.plain(&c); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compare() error {
	if !bytes.Equal(b.from.All(), b.to.All()) {
		wrong := 0
		for i := range benchSlots {
			if !bytes.Equal(b.from.Slot(i), b.to.Slot(i)) {
				wrong++
			}
		}
		return fmt.Errorf("%d of %d blocks are not what was moved", wrong, benchSlots)
	}
	b.report.Verified += int64(len(b.to.All()))
	clear(b.to.All())
	return nil
}
