package queue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// ticket reads "high a 100": priority, tenant, tokens. The owner is its name.
func ticket(what string) *Ticket {
	t := &Ticket{Weight: 1, Owner: what}
	var priority string
	if _, err := fmt.Sscan(what, &priority, &t.Tenant, &t.Cost); err != nil {
		panic(err)
	}
	p, ok := Parse(priority)
	if !ok {
		panic(priority)
	}
	t.Priority = p
	return t
}

func push(t *testing.T, q *Queue, what ...string) (out []string) {
	t.Helper()
	for _, w := range what {
		gone, ok := q.Push(ticket(w), start)
		for _, g := range gone {
			out = append(out, g.Owner.(string))
		}
		if !ok {
			out = append(out, "refused "+w)
		}
	}
	return out
}

// order is who goes, to the last.
func order(q *Queue) (names []string) {
	for {
		t := q.Pop(start)
		if t == nil {
			return names
		}
		names = append(names, t.Owner.(string))
	}
}

func want(t *testing.T, got []string, lines string) {
	t.Helper()
	var w []string
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		w = append(w, strings.TrimSpace(line))
	}
	if !slices.Equal(got, w) && len(got)+len(strings.TrimSpace(lines)) > 0 {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(w, "\n\t"))
	}
}

func TestHighGoesFirstAndLowLast(t *testing.T) {
	q := New(10, 0)
	push(t, q, "low a 1", "normal a 1", "high b 9", "normal b 1", "high a 9")
	want(t, order(q), "high b 9\nhigh a 9\nnormal a 1\nnormal b 1\nlow a 1")
}

// A greedy tenant's many requests delay another's only one by one of its own,
// and tokens count, not requests.
func TestTenantsShareByTokens(t *testing.T) {
	q := New(100, 0)
	push(t, q, "normal greedy 100", "normal greedy 101", "normal greedy 102", "normal greedy 103", "normal other 50", "normal other 51", "normal other 52")
	want(t, order(q), `
		normal greedy 100
		normal other 50
		normal other 51
		normal greedy 101
		normal other 52
		normal greedy 102
		normal greedy 103`)
}

func TestTenantsShareByWeight(t *testing.T) {
	q := New(100, 0)
	for i := range 12 {
		heavy, light := ticket(fmt.Sprint("normal heavy ", 10)), ticket(fmt.Sprint("normal light ", 10))
		heavy.Weight, heavy.Owner = 3, fmt.Sprint("heavy ", i)
		light.Owner = fmt.Sprint("light ", i)
		q.Push(heavy, start)
		q.Push(light, start)
	}
	heavy := 0
	for range 8 {
		if strings.HasPrefix(q.Pop(start).Owner.(string), "heavy") {
			heavy++
		}
	}
	if heavy != 6 {
		t.Errorf("of the first 8, %d are the tenant's with three times the weight", heavy)
	}
}

// Being away earns nothing: a tenant that comes late does not get what the
// others used meanwhile.
func TestNoCreditForAbsence(t *testing.T) {
	q := New(100, 0)
	for range 6 {
		push(t, q, "normal a 10")
	}
	for range 4 {
		q.Pop(start)
	}
	push(t, q, "normal late 10", "normal late 10", "normal late 10")
	want(t, order(q), `
		normal late 10
		normal a 10
		normal late 10
		normal a 10
		normal late 10`)
}

func TestAFullQueueRefusesTheGreedy(t *testing.T) {
	q := New(4, 0)
	want(t, push(t, q, "normal g 1", "normal g 2", "normal g 3", "low x 9"), "")
	want(t, push(t, q, "normal a 1"), "low x 9")            // the lower priority gives way
	want(t, push(t, q, "normal g 4"), "refused normal g 4") // has most already
	want(t, push(t, q, "normal b 1"), "normal g 3")         // less than the greedy one's
	want(t, push(t, q, "high g 9"), "normal g 2")           // a higher priority
	want(t, push(t, q, "low a 1"), "refused low a 1")       // a lower one
	want(t, push(t, q, "normal a 9"), "refused normal a 9") // would have most
	want(t, order(q), "high g 9\nnormal g 1\nnormal a 1\nnormal b 1")
	if q.Len() != 0 || q.bytes != 0 {
		t.Errorf("%d wait, %d bytes", q.Len(), q.bytes)
	}
}

func TestBytesAreBounded(t *testing.T) {
	q := New(100, 1000)
	big := ticket("normal a 5")
	big.Bytes = 900
	q.Push(big, start)
	other := ticket("normal a 5")
	other.Bytes = 101
	if _, ok := q.Push(other, start); ok {
		t.Error("1001 bytes wait")
	}
	other.Priority = High
	if out, ok := q.Push(other, start); !ok || len(out) != 1 || out[0] != big {
		t.Errorf("a higher priority made no room: %v %v", out, ok)
	}
}

func TestTheWaitIsPredicted(t *testing.T) {
	q := New(100, 0)
	wait := func(what string, ms int) time.Duration { return q.Wait(ticket(what), at(ms), 1000) }
	if w := wait("low a 10", 0); w != 0 {
		t.Errorf("an empty queue takes %s", w)
	}
	// Nothing was seen yet: the guess counts.
	push(t, q, "normal a 500", "normal a 500")
	if w := wait("normal a 10", 0); w != time.Second {
		t.Errorf("1,000 tokens ahead at a guess of 1,000 a second: %s", w)
	}
	if w := wait("high a 10", 0); w != 0 {
		t.Errorf("a high priority waits %s", w)
	}
	// Another tenant's turn comes after one of a's.
	if w := wait("normal b 10", 0); w != time.Second/2 {
		t.Errorf("another tenant waits %s", w)
	}
	// Without a guess nobody is said to wait for ever.
	if w := q.Wait(ticket("normal a 10"), at(10), 0); w > time.Second {
		t.Errorf("without a guess: %s", w)
	}
	// Then what was seen: 100 tokens each 200 ms.
	q = New(100, 0)
	for range 51 {
		push(t, q, "normal a 100")
	}
	for i := range 40 {
		q.Pop(at(200 * (i + 1)))
	}
	if w := wait("normal a 1", 8000); math.Abs(w.Seconds()-2.2) > 0.05 {
		t.Errorf("11 of 100 tokens, 500 tokens a second: %s", w)
	}
	// And time without any counts too.
	if before, after := wait("normal a 1", 8000), wait("normal a 1", 16000); after < before*3/2 {
		t.Errorf("a stalled queue takes %s, was %s", after, before)
	}
}

// Those who come later and go first are not in the queue when a wait is predicted;
// how far predictions were off shows them. 1,000 tokens a second go, of which high
// priority takes half.
func TestPredictionsLearnFromThoseWhoComeLater(t *testing.T) {
	q := New(1000, 0)
	for range 20 {
		push(t, q, "normal a 100")
	}
	for i := range 400 {
		now := at(100 * (i + 1))
		q.Pop(now)
		coming := "normal a 100"
		if i%2 == 0 {
			coming = "high a 100"
		}
		q.Push(ticket(coming), now)
	}
	// 20 wait, at five a second.
	if w := q.Wait(ticket("normal a 100"), at(40_000), 1000); w < 3500*time.Millisecond || w > 4500*time.Millisecond {
		t.Errorf("predicted %s", w)
	}
}

func TestAWorkersPace(t *testing.T) {
	var p Pace
	p.Note(20, at(0))
	if w := p.WaitMS(at(10)); w != 200 {
		t.Errorf("after 10 ms without any of 20 gone: %.0f ms", w)
	}
	// One goes each 50 ms, another comes.
	for i := 1; i <= 100; i++ {
		p.Note(19, at(50*i))
		p.Note(20, at(50*i))
	}
	if w := p.WaitMS(at(5000)); w < 900 || w > 1100 {
		t.Errorf("20 at 50 ms each: %.0f ms", w)
	}
	p.Note(0, at(5000))
	if w := p.WaitMS(at(9000)); w != 0 {
		t.Errorf("nobody waits: %.0f ms", w)
	}
	p.Note(1, at(9000)) // time in which nobody waited says nothing
	if w := p.WaitMS(at(9000)); w > 100 {
		t.Errorf("after a pause: %.0f ms", w)
	}
}

// Random lives of a queue, against a naive model of who waits: nothing is lost
// or served twice, bounds hold, higher priorities go first, a tenant's go in
// order, and tenants that both wait all the time get the same for their weight,
// up to one ticket each.
func TestRandomLives(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("KVASIR_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		life(t, rng)
		if t.Failed() {
			return
		}
	}
}

func life(t *testing.T, rng *rand.Rand) {
	most, bytes := 1+rng.IntN(60), int64(1+rng.IntN(3000))
	q := New(most, bytes)
	tenants := 1 + rng.IntN(5)
	weight := make([]float64, tenants)
	for i := range weight {
		weight[i] = float64(1 + rng.IntN(4))
	}
	var waiting []*Ticket // in order of arrival
	out := func(gone *Ticket, why string) {
		t.Helper()
		i := slices.Index(waiting, gone)
		if i < 0 {
			t.Fatalf("%s: %+v does not wait", why, gone)
		}
		waiting = slices.Delete(waiting, i, i+1)
	}
	// served is what each tenant got for its weight since the pair began to wait.
	type pair struct{ p, a, b int }
	served := map[pair][2]float64{}
	largest := map[pair]float64{}
	backlog := func(p, tenant int) bool {
		return slices.ContainsFunc(waiting, func(t *Ticket) bool {
			return int(t.Priority) == p && t.Tenant == fmt.Sprint(tenant)
		})
	}
	now := 0
	for range 400 {
		now += rng.IntN(20)
		switch op := rng.IntN(10); {
		case op < 5:
			tenant := rng.IntN(tenants)
			k := &Ticket{Priority: Low + Priority(rng.IntN(3)), Tenant: fmt.Sprint(tenant), Weight: weight[tenant], Cost: float64(1 + rng.IntN(100)), Bytes: int64(rng.IntN(200))}
			if rng.IntN(3) == 0 {
				k.Latest = at(now + rng.IntN(500))
			}
			gone, ok := q.Push(k, at(now))
			for _, g := range gone {
				if g.Priority > k.Priority {
					t.Fatalf("%s gave way to %s", g.Priority, k.Priority)
				}
				out(g, "evicted")
			}
			if ok {
				waiting = append(waiting, k)
			}
		case op < 8:
			k := q.Pop(at(now))
			if k == nil {
				if len(waiting) > 0 {
					t.Fatalf("%d wait and none is next", len(waiting))
				}
				continue
			}
			for _, w := range waiting {
				if w.Priority > k.Priority {
					t.Fatalf("%s went before %s", k.Priority, w.Priority)
				}
				if w == k {
					break
				}
				if w.Tenant == k.Tenant && w.Priority == k.Priority {
					t.Fatal("a tenant's second went before its first")
				}
			}
			for a := range tenants {
				for b := range a {
					if key := (pair{int(k.Priority), a, b}); backlog(key.p, a) && backlog(key.p, b) {
						s := served[key]
						for i, tenant := range []int{a, b} {
							if k.Tenant == fmt.Sprint(tenant) {
								s[i] += k.Cost / k.Weight
							}
						}
						served[key] = s
						largest[key] = 100/weight[a] + 100/weight[b]
						if math.Abs(s[0]-s[1]) > largest[key]+1e-6 {
							t.Fatalf("tenants %d and %d got %.1f and %.1f for their weight", a, b, s[0], s[1])
						}
					}
				}
			}
			out(k, "popped")
		case op < 9 && len(waiting) > 0:
			k := waiting[rng.IntN(len(waiting))]
			if !q.Remove(k) || q.Remove(k) {
				t.Fatal("a ticket that waits was not removed once")
			}
			out(k, "removed")
		default:
			for _, k := range q.Expired(at(now)) {
				if k.Latest.IsZero() || !at(now).After(k.Latest) {
					t.Fatal("expired early")
				}
				out(k, "expired")
			}
		}
		for key := range served {
			if !backlog(key.p, key.a) || !backlog(key.p, key.b) {
				delete(served, key)
			}
		}
		held, cost := int64(0), 0.0
		for _, w := range waiting {
			held += w.Bytes
			cost += w.Cost
		}
		if q.Len() != len(waiting) || q.bytes != held || held > bytes || len(waiting) > most {
			t.Fatalf("%d wait with %d bytes, not %d with %d, of %d and %d", q.Len(), q.bytes, len(waiting), held, most, bytes)
		}
		ahead := q.Ahead(&Ticket{Priority: Low, Tenant: "0", Weight: 1})
		if ahead < 0 || ahead > cost+1e-6 {
			t.Fatalf("%.1f tokens ahead of %.1f that wait", ahead, cost)
		}
	}
}
