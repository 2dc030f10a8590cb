package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// A handover is how an engine's prefill worker passes a prompt's KV on to its
// decode worker, as far as requests and answers show it: each leg is the client's
// own request with some of its members changed.
type handover interface {
	// atOnce says that both legs are sent together and meet at the workers. Else
	// the second is made of the first's answer.
	atOnce() bool
	prefill(body []byte) ([]byte, error)
	decode(body, answer []byte) ([]byte, error)
}

// errNothingHanded is a first leg that answered well but had nothing to pass on.
var errNothingHanded = errors.New("the prefill worker's answer names no KV to take over")

// The members of a request that a first leg has its own values for: it answers
// one token, at once and whatever that is. (vLLM passes nothing on where the
// prompt's first token ended the answer, so there must be no end.)
var (
	firstLegDrops = []string{"stream", "stream_options", "max_tokens", "max_completion_tokens", "min_tokens", "stop", "stop_token_ids", "return_token_ids",
		memberVLLM, memberTRTLLM}
	oneToken = `"max_tokens":1,"stream":false,`
)

// The members in which engines take what the two legs must know.
const (
	memberVLLM   = "kv_transfer_params"
	memberTRTLLM = "disaggregated_params"
)

// nixl is vLLM's NixlConnector: the prefill worker's answer says where the KV is,
// and that goes to the decode worker as it is.
type nixl struct{}

func (nixl) atOnce() bool { return false }

func (nixl) prefill(body []byte) ([]byte, error) {
	e := edit{drop: firstLegDrops, add: []byte(oneToken + `"min_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,` +
		`"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null},`)}
	return e.of(body)
}

func (nixl) decode(body, answer []byte) ([]byte, error) {
	params := member(answer, memberVLLM)
	if len(params) == 0 || params[0] != '{' {
		return nil, errNothingHanded
	}
	return withMember(body, memberVLLM, params)
}

// mooncake is vLLM's MooncakeConnector: the prefill worker keeps the KV under a
// name, and the decode worker asks it for that name.
type mooncake struct {
	transfer  string
	bootstrap string // URL of the prefill worker's server
	engine    string // its engine's id, which that server tells
}

func (mooncake) atOnce() bool { return true }

func (m mooncake) prefill(body []byte) ([]byte, error) {
	e := edit{drop: firstLegDrops, add: fmt.Appendf(nil, `%s"min_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":%q},`,
		oneToken, m.transfer)}
	return e.of(body)
}

func (m mooncake) decode(body, _ []byte) ([]byte, error) {
	engine, err := json.Marshal(m.engine)
	if err != nil {
		return nil, err
	}
	return withMember(body, memberVLLM, fmt.Appendf(nil,
		`{"do_remote_prefill":true,"do_remote_decode":false,"remote_bootstrap_addr":%q,"remote_engine_id":%s,"transfer_id":%q}`, m.bootstrap, engine, m.transfer))
}

// bootstrap is SGLang's: the two workers meet in a room of the prefill worker's
// bootstrap server, whose number both requests bear.
type bootstrap struct {
	host, port string
	room       int64
}

func (bootstrap) atOnce() bool { return true }

var roomMembers = []string{"bootstrap_host", "bootstrap_port", "bootstrap_room"}

func (b bootstrap) members() ([]byte, error) {
	host, err := json.Marshal(b.host)
	return fmt.Appendf(nil, `"bootstrap_host":%s,"bootstrap_port":%s,"bootstrap_room":%d,`, host, b.port, b.room), err
}

func (b bootstrap) prefill(body []byte) ([]byte, error) {
	members, err := b.members()
	if err != nil {
		return nil, err
	}
	e := edit{drop: append([]string{"stream", "stream_options"}, roomMembers...), add: append([]byte(`"stream":false,`), members...)}
	return e.of(body)
}

func (b bootstrap) decode(body, _ []byte) ([]byte, error) {
	members, err := b.members()
	if err != nil {
		return nil, err
	}
	e := edit{drop: roomMembers, add: members}
	return e.of(body)
}

// trtllm is TensorRT-LLM's: a context server's answer has an opaque state, and the
// prompt's tokens, with which a generation server goes on.
type trtllm struct {
	id int64 // unique among the requests of both servers
}

func (trtllm) atOnce() bool { return false }

func (t trtllm) prefill(body []byte) ([]byte, error) {
	e := edit{drop: firstLegDrops, add: fmt.Appendf(nil, `%s"disaggregated_params":{"request_type":"context_only","disagg_request_id":%d},`, oneToken, t.id)}
	return e.of(body)
}

func (trtllm) decode(body, answer []byte) ([]byte, error) {
	params := member(answer, memberTRTLLM)
	if choice := firstChoice(answer); len(params) == 0 && choice != nil {
		params = member(choice, memberTRTLLM)
	}
	if len(params) == 0 || params[0] != '{' {
		return nil, errNothingHanded
	}
	switch reason := finishReason(answer); reason {
	case "", "length", "not_finished":
	default:
		return nil, fmt.Errorf("%w: its first token was the answer's last (%s)", errNothingHanded, reason)
	}
	own := edit{drop: []string{"request_type"}, add: []byte(`"request_type":"generation_only",`)}
	params, err := own.of(params)
	if err != nil {
		return nil, err
	}
	e := edit{drop: []string{memberTRTLLM}, add: append(append([]byte(`"disaggregated_params":`), params...), ',')}
	ids := member(answer, "prompt_token_ids")
	if len(ids) > 0 && ids[0] == '[' {
		name := "prompt_token_ids" // beside a chat's messages
		if len(member(body, "messages")) == 0 {
			name = "prompt"
		}
		e.drop = append(e.drop, name)
		e.add = append(append(fmt.Appendf(e.add, "%q:", name), ids...), ',')
	}
	return e.of(body)
}

// member is a top-level member of a document, nil if it has none.
func member(document []byte, name string) (value []byte) {
	_ = eachField(document, func(key, v []byte) error {
		if string(key) == name {
			value = v
		}
		return nil
	})
	return value
}

// firstChoice is the first of an answer's choices.
func firstChoice(answer []byte) (choice []byte) {
	choices := member(answer, "choices")
	if len(choices) == 0 {
		return nil
	}
	_ = eachElement(choices, func(c []byte) error {
		choice = c
		return errStop
	})
	if len(choice) == 0 || choice[0] != '{' {
		return nil
	}
	return choice
}

// withMember sets one member of a body.
func withMember(body []byte, name string, value []byte) ([]byte, error) {
	e := edit{drop: []string{name}, add: append(append(fmt.Appendf(nil, "%q:", name), value...), ',')}
	return e.of(body)
}

// handoverKind names the engines and connectors that can pass KV to each other; ""
// for those that cannot at all.
func handoverKind(info *workers.Info) string {
	switch info.Engine {
	case "", "vllm":
		if info.Connector == "" {
			return "nixl"
		}
		return info.Connector
	case "sglang", "trtllm":
		return info.Engine
	}
	return ""
}

// handover is how a prefill worker passes the request's KV on.
func (x *exchange) handover(first *workers.Worker) (handover, error) {
	info := first.Known()
	host, port := info.BootstrapAddr()
	switch handoverKind(info) {
	case "nixl":
		return nixl{}, nil
	case "mooncake":
		url := "http://" + net.JoinHostPort(host, port)
		id, err := x.g.mooncakes.engine(x.ctx, first, url)
		if err != nil {
			return nil, err
		}
		return mooncake{transfer: newID(), bootstrap: url, engine: id}, nil
	case "sglang":
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("worker %s: bootstrap port %q is not a number", info.ID, port)
		}
		return bootstrap{host: host, port: port, room: rand.Int64()}, nil
	case "trtllm":
		return trtllm{id: 1<<42 + rand.Int64N(1<<62)}, nil
	}
	return nil, fmt.Errorf("worker %s: engine %s hands no KV over", info.ID, info.Engine)
}

// mooncakes knows the ids of prefill workers' engines, which their bootstrap
// servers tell.
type mooncakes struct {
	client *http.Client
	mu     sync.Mutex
	known  map[kv.WorkerID]mooncakeEngine
}

type mooncakeEngine struct {
	life uint64 // of the worker, in which it is true
	id   string
}

// mooncakePatience is how long a request waits for a bootstrap server's word.
const mooncakePatience = 2 * time.Second

func (m *mooncakes) engine(ctx context.Context, w *workers.Worker, url string) (string, error) {
	m.mu.Lock()
	e, ok := m.known[w.ID()]
	m.mu.Unlock()
	life := w.Life()
	if ok && e.life == life {
		return e.id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mooncakePatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/query", nil)
	if err != nil {
		return "", err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("the bootstrap server of %s: %w", w.ID(), err)
	}
	defer resp.Body.Close()
	var ranks map[string]struct {
		EngineID string `json:"engine_id"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the bootstrap server of %s: %s", w.ID(), resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&ranks); err != nil {
		return "", fmt.Errorf("the bootstrap server of %s: %w", w.ID(), err)
	}
	rank := strconv.Itoa(w.Known().Rank)
	if e.id = ranks[rank].EngineID; e.id == "" {
		return "", fmt.Errorf("the bootstrap server of %s knows no engine of rank %s", w.ID(), rank)
	}
	e.life = life
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[w.ID()] = e
	return e.id, nil
}
