package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// FuzzRequest: whatever a body is, it is refused with a typed error that names
// a code of the table, or it is JSON whose controlled fields mean the same to
// encoding/json.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		chatBody, streamBody, secretBody, `{"model":"m","prompt":["a","b"]}`, `{"model":"m","prompt":[1,2]}`, `{"model":"m","prompt":[[1],[2]]}`,
		`{"model":"m","prompt":"\ud83d\ude00"}`, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"},"y"]}],"tools":[],"chat_template_kwargs":{}}`,
		`{"model":"m","model":"n"}`, `{"model":"m","max_tokens":1e3,"messages":[{"role":"u"}]}`, `{"model":"m","messages":[{"role":"user","content":null}],"reasoning_effort":"low","chat_template_kwargs":{"a":1}}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		e := endpointCompletion
		if chat {
			e = endpointChat
		}
		q, err := parseInference(e, body)
		if err != nil {
			if k, ok := errorKinds[asError(err).Code]; !ok || k.Status != 400 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var same struct {
			Model  string
			Stream *bool
			Salt   *string `json:"cache_salt"`
		}
		// encoding/json matches keys whatever their case; engines don't.
		if strings.Count(strings.ToLower(string(body)), `"model"`) != 1 || strings.Contains(string(body), `\u`) {
			return
		}
		_ = json.Unmarshal(body, &same) // other fields may have types of their own
		if !json.Valid(body) || q.model != same.Model && strings.Contains(string(body), `"model"`) {
			t.Fatalf("%q: model %q, encoding/json says %q", body, q.model, same.Model)
		}
	})
}

// As in vLLM: the request's own effort wins, and asks a model to think that is not
// told whether to.
func TestReasoningEffortReachesTheTemplate(t *testing.T) {
	l, err := loadLanguage(byteModel(t), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Renderer, err = chattemplate.Parse("{{ reasoning_effort }} {{ enable_thinking }}"); err != nil {
		t.Fatal(err)
	}
	for fields, want := range map[string]string{
		`"reasoning_effort":"low"`:  "low True",
		`"reasoning_effort":"none"`: "none False",
		`"reasoning_effort":"low","chat_template_kwargs":{"reasoning_effort":"high","enable_thinking":false}`: "low False",
		`"chat_template_kwargs":{"reasoning_effort":"high"}`:                                                  "high ",
	} {
		q, err := parseInference(endpointChat, []byte(`{"model":"m","messages":[{"role":"user","content":"x"}],`+fields+`}`))
		if err != nil {
			t.Fatal(err)
		}
		ids, _, err := renderChat(l, q, time.Now)
		if got := string(l.Tokenizer.Decode(nil, ids, false)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", fields, got, err, want)
		}
	}
	q, err := parseInference(endpointChat, []byte(`{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":5}`))
	if err == nil {
		_, _, err = renderChat(l, q, time.Now)
	}
	if err == nil {
		t.Error("an effort that is no string was accepted")
	}
}

func TestRecordsKeepTheLastAndThoseInFlight(t *testing.T) {
	rs := newRecords(3)
	old := rs.begin("old", Record{})
	for i := range 5 {
		rs.end(rs.begin(fmt.Sprintf("r%d", i), Record{}))
	}
	var ids []string
	for _, r := range rs.latest(10) {
		ids = append(ids, r.RequestID)
	}
	if got := strings.Join(ids, " "); got != "r4 r3 r2" {
		t.Errorf("kept %s", got)
	}
	if _, ok := rs.find("r0"); ok {
		t.Error("r0 is still there")
	}
	// One in flight keeps its id to itself, however long ago it began.
	if again := rs.begin("old", Record{}); again.r.RequestID != "old~2" {
		t.Errorf("%q beside a request in flight of the same id", again.r.RequestID)
	}
	rs.end(old)
	if _, ok := rs.find("old"); ok {
		t.Error("an evicted record outlived its request")
	}
	if len(rs.byID) != 3 {
		t.Errorf("%d ids for 3 records", len(rs.byID))
	}
}

func TestLine(t *testing.T) {
	predicted, observed := 61.2, 58.04
	r := Record{
		Endpoint: "chat", Tokens: 812, Chosen: "w1", Usage: &Usage{PromptTokens: 812, CompletionTokens: 64}, Finish: "stop", Outcome: outcomeOK,
		PredictedTTFTMS: &predicted, ObservedTTFTMS: &observed,
		Candidates: []Candidate{{Estimate: router.Estimate{Worker: "w1", Cut: 48, RecomputeBlocks: 3, Blocks: router.TierBlocks{kv.GPU: 40, kv.Disk: 8}}}},
		Onboard:    &Onboarded{Planned: 48, Blocks: router.TierBlocks{kv.GPU: 40, kv.Disk: 8}, MS: 12.3},
	}
	if got, want := r.Line(), "chat 812+64 tok → w1 | hit gpu 40, disk 8 | restored 8 in 12 ms | recomputed 3 | ttft 61 → 58 ms | stop"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	r = Record{Endpoint: "completion", Status: 404, Outcome: "model_not_found", DurationMS: 0.31}
	if got, want := r.Line(), "completion ? tok → no worker | hit none | ttft ? predicted, 0.3 ms in all | 404 model_not_found"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestTheWayUpFromADeepTier(t *testing.T) {
	s := workers.Stats{}
	s.Links[kv.Disk] = workers.LinkStats{Up: true, BytesPerSecond: 2e9, Latency: time.Millisecond, QueuedBytes: 7}
	if got := wayUp(&s, kv.Disk); got != (router.Link{LatencyMS: 1, BytesPerMS: 2e6, QueuedBytes: 7}) {
		t.Errorf("alone: %+v", got)
	}
	s.Links[kv.CPU] = workers.LinkStats{Up: true, BytesPerSecond: 1e9, Latency: 2 * time.Millisecond}
	if got := wayUp(&s, kv.Disk); got != (router.Link{LatencyMS: 3, BytesPerMS: 1e6, QueuedBytes: 7}) {
		t.Errorf("through a slower cpu link: %+v", got)
	}
	s.Links[kv.Disk].Up = false
	if got := wayUp(&s, kv.Disk); got.BytesPerMS != 0 {
		t.Errorf("a tier that is down is usable: %+v", got)
	}
}

// TestWhatIsLearnedOfPrefill: only what can be told apart from waiting.
func TestWhatIsLearnedOfPrefill(t *testing.T) {
	for name, c := range map[string]struct {
		idle    bool
		onboard *Onboarded
		want    float64
		ok      bool
	}{
		"an idle worker":             {idle: true, want: 100, ok: true},
		"a queue ahead":              {idle: false},
		"a short restore":            {idle: true, onboard: &Onboarded{MS: 20}, want: 80, ok: true},
		"a restore longer than half": {idle: true, onboard: &Onboarded{MS: 60}},
		"a restore that failed":      {idle: true, onboard: &Onboarded{MS: 1, Error: "x"}},
	} {
		ms, ok := prefillMS(&placement{idle: c.idle}, &Record{Onboard: c.onboard}, 100)
		if ok != c.ok || ms != c.want {
			t.Errorf("%s: %v %v", name, ms, ok)
		}
	}
}

func TestObservationsReachTheCalibration(t *testing.T) {
	s := newSetting(t, 1, nil)
	for range 5 {
		s.record(s.post("/v1/chat/completions", streamBody).header.Get("X-Request-Id"))
	}
	eventually(t, "five observations", func() bool {
		s.g.placing.Lock()
		defer s.g.placing.Unlock()
		return s.g.c.Calibration.Errors("w0").Count == 5
	})
	s.g.placing.Lock()
	defer s.g.placing.Unlock()
	if got := s.g.c.Calibration.Rates("w0"); got.PrefillPerTokenMS == DefaultRates.PrefillPerTokenMS && got.PrefillBaseMS == DefaultRates.PrefillBaseMS {
		t.Errorf("the rates are still the defaults: %+v", got)
	}
}
