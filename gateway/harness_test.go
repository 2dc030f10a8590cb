package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, splitting) }

// splitting is the regex engine's clock, which ends by itself.
var splitting = goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock")

// setting is a gateway in front of stand-in engines, served over real HTTP.
type setting struct {
	t       testing.TB
	g       *Gateway
	index   *prefixindex.Index
	engines []*standIn
	server  *httptest.Server
	client  *http.Client
	logs    *lockedBuffer
	net     *pipes // nil: the loopback

	mu      sync.Mutex
	records []Record
}

// blockSize of the stand-in engines: small, so that short prompts have blocks.
const blockSize = 4

// newSetting starts n engines w0, w1, ... of model m and a gateway. change may
// alter the gateway's configuration.
func newSetting(t testing.TB, n int, change func(*Config)) *setting {
	return newSettingOn(nil, t, n, change)
}

func newSettingOn(net *pipes, t testing.TB, n int, change func(*Config)) *setting {
	s := newUnstarted(t)
	s.net = net
	var infos []workers.Info
	for i := range n {
		e := newStandInOn(net, t, fmt.Sprintf("w%d", i))
		s.engines = append(s.engines, e)
		infos = append(infos, workers.Info{ID: kv.WorkerID(e.name), URL: e.URL, Model: "m", BlockSize: blockSize, Engine: "vllm"})
	}
	s.start(infos, change)
	return s
}

func newUnstarted(t testing.TB) *setting {
	return &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}}
}

func (s *setting) start(infos []workers.Info, change func(*Config)) {
	t := s.t
	fleet := workers.NewFleet(workers.FleetConfig{
		Sources: []workers.Source{discovery.Static(infos...)}, Sink: s.index, BackoffMin: 5 * time.Millisecond, HealthInterval: 20 * time.Millisecond,
		HTTP: &http.Client{Transport: s.net.over(&http.Transport{MaxIdleConnsPerHost: 4})},
	})
	policy, err := router.NewPolicy("predicted", 1)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Models: []Model{{Name: "m", Tokenizer: byteModel(t)}},
		Fleet:  fleet, Index: s.index, Policy: policy,
		Log: slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnRequest: func(r Record) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.records = append(s.records, r)
		},
	}
	if change != nil {
		change(&c)
	}
	if s.g, err = New(c); err != nil {
		t.Fatal(err)
	}
	if s.net != nil {
		s.net.over(s.g.transport)
		s.g.engines.Dial = s.net.dial
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = fleet.Run(ctx)
	}()
	s.server = s.net.serve(s.g.Handler())
	s.client = &http.Client{Transport: s.net.over(&http.Transport{MaxIdleConnsPerHost: 256})}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.server.Close()
		s.g.Close()
		stop()
		<-done
	})
	eventually(t, "all workers ready", func() bool { return s.ready() == len(infos) })
}

// ready is how many workers are, of any role.
func (s *setting) ready() (n int) {
	for _, w := range s.g.c.Fleet.Workers() {
		if w.Ready() {
			n++
		}
	}
	return n
}

// byteModel is a model folder whose tokenizer has one token for each byte and
// whose template writes each message as role:content;.
func byteModel(t testing.TB) string {
	vocab := map[string]int{}
	next := 256
	for b := range 256 {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad {
			r = rune(next)
			next++
		}
		vocab[string(r)] = b
	}
	tokenizer, err := json.Marshal(map[string]any{
		"version": "1.0", "added_tokens": []any{}, "normalizer": nil, "post_processor": nil,
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"decoder":       map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []any{},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	template := `{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}`
	settings, err := json.Marshal(map[string]any{"chat_template": template})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"tokenizer.json": tokenizer, "tokenizer_config.json": settings} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// response is a whole answer.
type response struct {
	status int
	header http.Header
	body   []byte
}

// problem is the answer's error.
func (r response) problem(t *testing.T) (code, param, message string) {
	t.Helper()
	var e struct {
		Error *struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    any     `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(r.body, &e); err != nil || e.Error == nil || e.Error.Type == "" {
		t.Fatalf("not an OpenAI error: %s", r.body)
	}
	if e.Error.Param != nil {
		param = *e.Error.Param
	}
	return fmt.Sprint(e.Error.Code), param, e.Error.Message
}

func (s *setting) do(req *http.Request) response {
	s.t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("reading the answer: %v", err)
	}
	return response{resp.StatusCode, resp.Header, body}
}

func (s *setting) post(path, body string, header ...string) response {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.do(req)
}

func (s *setting) get(path string) response {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

// record waits for the record that the request with this id left.
func (s *setting) record(id string) (r Record) {
	s.t.Helper()
	eventually(s.t, "a finished record of "+id, func() bool {
		var ok bool
		r, ok = s.g.records.find(id)
		return ok && r.Done
	})
	return r
}

// booksClosed waits until every load that was booked has been released: a client
// has its answer before the handler ends.
func (s *setting) booksClosed() {
	s.t.Helper()
	eventually(s.t, "law 4: as many loads released as booked, none open", func() bool {
		s.g.placing.Lock()
		defer s.g.placing.Unlock()
		added, released := s.g.ledger.Totals()
		return added == released && s.g.ledger.Open() == 0
	})
}

// blocksOf are the hashes of a chat's prompt under byteModel's template.
func blocksOf(rendered string) (root kv.Hash, hashes []kv.Hash) {
	tokens := make([]uint32, len(rendered))
	for i := range len(rendered) {
		tokens[i] = uint32(rendered[i])
	}
	root = kv.RootSpec{Model: "m", BlockSize: blockSize}.Hash()
	return root, kv.Chain(nil, root, tokens, blockSize)
}

// holds puts the prompt's leading blocks into the index for a worker.
func (s *setting) holds(w string, tier kv.Tier, rendered string, blocks int) {
	root, hashes := blocksOf(rendered)
	s.index.Apply(kv.WorkerID(w), kv.Event{Kind: kv.Stored, Tier: tier, Parent: root, Hashes: hashes[:blocks]})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// quiet is for engines whose handlers die on purpose.
var quiet = log.New(io.Discard, "", 0)
