package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// pair are engines that hand KV over as vLLM's NixlConnector does: what a prefill
// engine computed stays leased to the request until a decode engine has fetched
// it. They stand in for real ones, which internal/e2e has.
type pair struct {
	t      *testing.T
	teller teller

	mu     sync.Mutex
	leases map[string]bool // by remote_request_id
	// prefills and decodes are how the next calls end, "" and none left being well.
	prefills, decodes []string
	legs              []string // as they came: engine, leg
}

func next(list *[]string) (how string) {
	if len(*list) > 0 {
		how, *list = (*list)[0], (*list)[1:]
	}
	return how
}

type pdParams struct {
	DoRemoteDecode  bool   `json:"do_remote_decode"`
	DoRemotePrefill bool   `json:"do_remote_prefill"`
	RequestID       string `json:"remote_request_id"`
	Port            int    `json:"remote_port"`
}

func (p *pair) act(e *standIn) func(w http.ResponseWriter, r *http.Request, body []byte) bool {
	return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		var q struct {
			Stream    bool      `json:"stream"`
			MaxTokens int       `json:"max_tokens"`
			Params    *pdParams `json:"kv_transfer_params"`
		}
		if err := json.Unmarshal(body, &q); err != nil {
			p.t.Errorf("%v: %s", err, body)
		}
		leg := "whole"
		switch {
		case q.Params == nil:
		case q.Params.DoRemoteDecode:
			leg = "prefill"
		case q.Params.DoRemotePrefill:
			leg = "decode"
		}
		p.mu.Lock()
		p.legs = append(p.legs, e.name+" "+leg)
		how := ""
		switch leg {
		case "prefill":
			how = next(&p.prefills)
		case "decode":
			how = next(&p.decodes)
		}
		p.mu.Unlock()
		if ended := p.fails(w, r, how); ended {
			return true
		}
		switch leg {
		case "prefill":
			if q.Stream || q.MaxTokens != 1 || strings.Contains(string(body), "stream_options") {
				p.t.Errorf("a first leg is %s", body)
			}
			p.prefill(w, r, how)
			return true
		case "decode":
			p.mu.Lock()
			leased := p.leases[q.Params.RequestID]
			delete(p.leases, q.Params.RequestID)
			p.mu.Unlock()
			if !leased || q.Params.Port != 29500 {
				p.t.Errorf("nothing is leased for %+v", q.Params)
			}
		}
		return p.teller.t != nil && p.teller.answer(w, r, body)
	}
}

// fails ends a call as told; false lets it go on.
func (p *pair) fails(w http.ResponseWriter, r *http.Request, how string) bool {
	events := func(payloads ...string) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, payload := range payloads {
			fmt.Fprintf(w, "data: %s\n\n", payload)
		}
	}
	const dead = `{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}`
	switch how {
	case "", "empty":
		return false
	case "dies": // within its answer: before it, the transport would ask again
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "busy":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "refuses":
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":{"message":"no","type":"BadRequestError","param":null,"code":400}}`)
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, dead)
	case "error event":
		events(dead, "[DONE]")
	case "role, error event":
		events(roleChunk, dead, "[DONE]")
	case "hangs":
		<-r.Context().Done()
	}
	return true
}

func (p *pair) prefill(w http.ResponseWriter, r *http.Request, how string) {
	id := "cmpl-" + r.Header.Get("X-Request-Id") + "-" + newID()[:8]
	params := "null"
	if how != "empty" {
		p.mu.Lock()
		p.leases[id] = true
		p.mu.Unlock()
		params = strings.Replace(nixlParams, "cmpl-pd-1-0-b1347b9f", id, 1)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"x","choices":[{"index":0,"finish_reason":"length"}],"usage":{"prompt_tokens":20,"total_tokens":21,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":12}},"kv_transfer_params":%s}`, params)
}

// newPair starts prefill workers p0, p1, ... and decode workers d0, d1, ... in front
// of which a policy splits whatever it can, unless change says otherwise.
func newPair(t *testing.T, prefills, decodes int, change func(*Config)) (*setting, *pair) {
	p := &pair{t: t, leases: map[string]bool{}}
	s := newRoles(t, prefills, decodes, workers.Info{Engine: "vllm"}, change)
	for _, e := range s.engines {
		e.Config.ErrorLog = quiet
		e.does(p.act(e))
	}
	return s, p
}

func newRoles(t *testing.T, prefills, decodes int, like workers.Info, change func(*Config)) *setting {
	s := newUnstarted(t)
	var infos []workers.Info
	for i := range prefills + decodes {
		info := like
		info.ID, info.Role = kv.WorkerID(fmt.Sprintf("p%d", i)), kv.Prefill
		if i >= prefills {
			info.ID, info.Role = kv.WorkerID(fmt.Sprintf("d%d", i-prefills)), kv.Decode
		}
		e := newStandIn(t, string(info.ID))
		s.engines = append(s.engines, e)
		info.URL, info.Model, info.BlockSize = e.URL, "m", blockSize
		infos = append(infos, info)
	}
	s.start(infos, func(c *Config) {
		c.Policy, _ = router.NewPolicy("round-robin", 1)
		if change != nil {
			change(c)
		}
	})
	return s
}

// A request is shared: the prefill worker computes the prompt, the decode worker
// takes over what that answered and answers as one engine would, with the first
// leg's count of cached tokens.
func TestTwoWorkersShareARequest(t *testing.T) {
	for _, body := range []string{chatBody, streamBody, `{"model":"m","prompt":"hello there","max_tokens":2}`} {
		s, p := newPair(t, 1, 1, nil)
		path := endpointChat.path()
		if strings.Contains(body, "prompt") {
			path = endpointCompletion.path()
		}
		if strings.Contains(body, `"stream"`) {
			body = strings.Replace(body, "{", `{"stream_options":{"include_usage":true},`, 1)
		}
		r := s.post(path, body)
		rec := s.record(r.header.Get("X-Request-Id"))
		if r.status != 200 || !strings.Contains(string(r.body), "d0 ") || !strings.Contains(string(r.body), `"cached_tokens":12`) {
			t.Errorf("%d %s", r.status, r.body)
		}
		if got := fmt.Sprint(p.legs); got != "[p0 prefill d0 decode]" || len(p.leases) != 0 {
			t.Errorf("%s, leases %v", got, p.leases)
		}
		if r.header.Get("X-Kvasir-Worker") != "d0" || r.header.Get("X-Kvasir-Prefill-Worker") != "p0" {
			t.Errorf("headers %v", r.header)
		}
		if rec.Chosen != "d0" || rec.Prefill != "p0" || len(rec.Legs) != 2 || rec.Legs[0].Outcome != "ok" || rec.Legs[1].Outcome != "ok" ||
			rec.Usage == nil || rec.Usage.CachedTokens != 12 || len(rec.Failed) != 0 || rec.Bypass != "" {
			t.Errorf("%+v", rec)
		}
		if err := rec.Replay(); err != nil {
			t.Error(err)
		}
		s.booksClosed()
	}
}

// While the first leg runs, it is in the prefill worker's books and the second in
// the decode worker's; its answer takes the first out.
func TestBothLegsAreInTheBooks(t *testing.T) {
	s, p := newPair(t, 1, 1, nil)
	load := func(w kv.WorkerID) router.Load {
		s.g.placing.Lock()
		defer s.g.placing.Unlock()
		return s.g.ledger.Load(w, s.g.c.Now())
	}
	var prefilling, decoding [2]router.Load
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if e.name == "p0" {
				prefilling = [2]router.Load{load("p0"), load("d0")}
			} else {
				decoding = [2]router.Load{load("p0"), load("d0")}
			}
			return p.act(e)(w, r, body)
		})
	}
	if r := s.post("/v1/chat/completions", streamBody); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if prefilling[0].Waiting != 1 || prefilling[1].Waiting != 1 || decoding[0].Waiting+decoding[0].Running != 0 || decoding[1].Waiting != 1 {
		t.Errorf("while the first leg ran: %+v; the second: %+v", prefilling, decoding)
	}
	s.booksClosed()
}

// Whatever becomes of a leg before the answer began, the client does not see it:
// another pair or the decode worker alone answers.
func TestAFailedLegIsNoFailedRequest(t *testing.T) {
	for _, c := range []struct {
		prefill, decode string
		prefills        int
		legs            string // after which the request was answered
	}{
		{"dies", "", 1, "[p0 prefill d0 whole]"},
		{"500", "", 1, "[p0 prefill d0 whole]"},
		{"busy", "", 1, "[p0 prefill d0 whole]"},
		{"empty", "", 1, "[p0 prefill d0 whole]"},
		{"refuses", "", 1, "[p0 prefill d0 whole]"},
		{"dies", "", 2, "[p1 prefill p0 prefill d0 decode]"},
		{"", "500", 2, "[p1 prefill d0 decode d0 whole]"},
		{"", "error event", 1, "[p0 prefill d0 decode d0 whole]"},
		{"", "role, error event", 1, "[p0 prefill d0 decode d0 whole]"},
		{"", "refuses", 1, "[p0 prefill d0 decode d0 whole]"},
		{"", "dies", 1, "[p0 prefill d0 decode p0 whole]"}, // nobody else is left
	} {
		for _, extra := range []string{"", `"response_format":{"type":"json_object"},`} { // carriable or not
			t.Run(fmt.Sprint(c, extra != ""), func(t *testing.T) {
				s, p := newPair(t, c.prefills, 1, nil)
				p.prefills, p.decodes = []string{c.prefill}, []string{c.decode}
				r := s.post("/v1/chat/completions", strings.Replace(streamBody, "{", "{"+extra, 1))
				rec := s.record(r.header.Get("X-Request-Id"))
				if r.status != 200 || strings.Contains(string(r.body), "error") || !strings.HasSuffix(string(r.body), "data: [DONE]\n\n") || rec.Outcome != outcomeOK {
					t.Fatalf("%d %s\n%+v", r.status, r.body, rec)
				}
				if n := strings.Count(string(r.body), `"role"`); n != 1 {
					t.Errorf("%d beginnings: %s", n, r.body)
				}
				if got := fmt.Sprint(p.legs); got != c.legs && got != strings.NewReplacer("p0", "p1", "p1", "p0").Replace(c.legs) {
					t.Errorf("%s, want %s", got, c.legs)
				}
				if len(rec.Failed) != 1 {
					t.Errorf("failed attempts %+v", rec.Failed)
				}
				s.booksClosed()
			})
		}
	}
}

// Streams go through legs that fail at random and decode workers that die within
// them: the client sees one stream, every character once, and all books are closed.
func TestSharedStreamsSurvive(t *testing.T) {
	rng := rand.New(rand.NewPCG(randomSeed(t), 0))
	ways := []string{"", "", "", "500", "empty", "refuses", "busy", "dies"}
	later := []string{"", "", "", "500", "error event", "role, error event", "dies"}
	for i := range 40 {
		s, p := newPair(t, 2, 2, nil)
		p.teller.t = t
		deaths := 0
		pick := func(from []string) []string {
			var list []string
			for range 4 {
				how := from[rng.IntN(len(from))]
				if how == "dies" {
					if deaths++; deaths > 2 { // more, and the request is taken to be what kills them
						how = ""
					}
				}
				list = append(list, how)
			}
			return list
		}
		p.prefills, p.decodes = pick(ways), pick(later)
		for range rng.IntN(3) {
			p.teller.cuts = append(p.teller.cuts, 1+rng.IntN(len(saying)/3))
			p.teller.hows = append(p.teller.hows, []string{"resets", "garbles", "truncates", "fails"}[rng.IntN(4)])
		}
		t.Run(fmt.Sprint(i, p.prefills, p.decodes, p.teller.cuts, p.teller.hows), func(t *testing.T) {
			r := s.post("/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"temperature":0,"max_tokens":200,"messages":[{"role":"user","content":"go on"}]}`)
			s.oneStream(t, r, &p.teller)
			t.Log(p.legs)
		})
	}
}

// A client that leaves ends both legs, wherever they are.
func TestALeavingClientEndsBothLegs(t *testing.T) {
	for _, at := range []string{"p0", "d0"} {
		s, p := newPair(t, 1, 1, nil)
		there := make(chan struct{}, 1)
		for _, e := range s.engines {
			e.does(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				if e.name == at {
					there <- struct{}{}
					<-r.Context().Done()
					return true
				}
				return p.act(e)(w, r, body)
			})
		}
		ctx, leave := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
		go func() {
			receive(t, there)
			leave()
		}()
		if _, err := s.client.Do(req); err == nil {
			t.Error("it was answered")
		}
		eventually(t, "nobody works any more", func() bool {
			return s.engines[0].active.Load()+s.engines[1].active.Load()+int64(s.g.admission.count()) == 0
		})
		s.booksClosed()
	}
}

// What cannot be shared is not: one decode worker serves it, and the record says
// why.
func TestWhatIsNotShared(t *testing.T) {
	for extra, why := range map[string]string{
		`"n":2`:                            "several answers",
		`"echo":true`:                      "echoes",
		`"kv_transfer_params":{"a":1}`:     "of its own",
		`"tool_choice":"required"`:         "must call a tool",
		`"chat_template":"{{ messages }}"`: "not known",
		`"tool_choice":"auto","tools":[{"type":"function","function":{"name":"f"}}]`: "",
	} {
		s, p := newPair(t, 1, 1, nil)
		r := s.post("/v1/chat/completions", strings.Replace(chatBody, "{", "{"+extra+",", 1))
		rec := s.record(r.header.Get("X-Request-Id"))
		if shared := len(p.legs) == 2; r.status != 200 || shared != (why == "") || !strings.Contains(rec.Bypass, why) || (rec.Bypass == "") != (why == "") {
			t.Errorf("%s: %d, legs %v, bypass %q", extra, r.status, p.legs, rec.Bypass)
		}
		s.booksClosed()
	}
}

// The router bypasses the prefill worker where that is cheaper: for a prompt that
// is short, or cached at the decode worker; a long one is shared when it would hold
// up streams.
func TestTheRouterBypasses(t *testing.T) {
	s, p := newPair(t, 1, 1, func(c *Config) { c.Policy, _ = router.NewPolicy("predicted", 1) })
	long := strings.Repeat("a long story; ", 120)
	ask := func(prompt string) Record {
		t.Helper()
		r := s.post("/v1/completions", fmt.Sprintf(`{"model":"m","max_tokens":1,"prompt":%q}`, prompt))
		if r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return s.record(r.header.Get("X-Request-Id"))
	}
	s.g.placing.Lock() // streams at the decode worker
	for i := range 8 {
		id := fmt.Sprint("stream", i)
		s.g.ledger.Add(id, "d0", router.Estimate{}, s.g.c.Now())
		s.g.ledger.FirstToken(id, s.g.c.Now())
	}
	s.g.placing.Unlock()
	if rec := ask(long); rec.Prefill != "p0" || rec.Bypass != "" {
		t.Errorf("a long prompt: %q then %q, bypass %q", rec.Prefill, rec.Chosen, rec.Bypass)
	}
	if rec := ask("short"); rec.Prefill != "" || rec.Chosen != "d0" || rec.Bypass != bypassShort {
		t.Errorf("a short prompt: %q then %q, bypass %q", rec.Prefill, rec.Chosen, rec.Bypass)
	}
	tokens := make([]uint32, len(long))
	for i := range long {
		tokens[i] = uint32(long[i])
	}
	root := kv.RootSpec{Model: "m", BlockSize: blockSize}.Hash()
	s.index.Apply("d0", kv.Event{Kind: kv.Stored, Tier: kv.GPU, Parent: root, Hashes: kv.Chain(nil, root, tokens, blockSize)})
	if rec := ask(long); rec.Prefill != "" || rec.Chosen != "d0" || rec.Bypass != bypassCached {
		t.Errorf("a cached prompt: %q then %q, bypass %q", rec.Prefill, rec.Chosen, rec.Bypass)
	}
	if got := fmt.Sprint(p.legs); got != "[p0 prefill d0 decode d0 whole d0 whole]" {
		t.Error(got)
	}
}

// What the way in takes is learned, but for the first time, and forgotten when it
// was not used for long; a way that fails is closed for a while.
func TestTheWayInIsLearned(t *testing.T) {
	s, _ := newPair(t, 1, 1, nil)
	var d, first *seat
	for _, x := range s.g.seats() {
		if x.id == "d0" {
			d = x
		} else {
			first = x
		}
	}
	from := &placement{worker: first.worker}
	now := time.Unix(1000, 0)
	s.g.placing.Lock()
	defer s.g.placing.Unlock()
	link := func() router.Link {
		r := *d.speeds.Rates()
		d.wayInLocked(&r, now)
		return r.Handoff
	}
	d.learnHandoffLocked(from, 1<<20, 9999, now) // builds the connection
	if link() != hopefulHandoff {
		t.Errorf("after the first: %+v", link())
	}
	const fixed, perMS = 20, 1e6
	for i := range 60 {
		bytes := float64(int(1)<<20) * float64(1+i%20)
		d.learnHandoffLocked(from, bytes, fixed+bytes/perMS, now)
	}
	if l := link(); l.LatencyMS < 18 || l.LatencyMS > 22 || l.BytesPerMS < 0.8*perMS || l.BytesPerMS > 1.2*perMS {
		t.Errorf("learned %+v", l)
	}
	for range fewestFailed {
		d.handoffFailedLocked(now)
	}
	if link().BytesPerMS != 0 {
		t.Error("a way that fails is open")
	}
	if now = now.Add(handoffPause); link().BytesPerMS == 0 {
		t.Error("it stays closed")
	}
	if now = now.Add(handoffMemory); link() != hopefulHandoff {
		t.Errorf("long after: %+v", link())
	}
}
