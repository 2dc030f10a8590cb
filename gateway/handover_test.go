package gateway

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// What vLLM 0.32 on CPUs answered a first leg with, recorded.
const nixlParams = `{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[1,2,3,4,5,6,7,8,9,10]],"remote_engine_id":"P0","remote_request_id":"cmpl-pd-1-0-b1347b9f","remote_host":"127.0.0.1","remote_port":29500,"tp_size":1,"dcp_size":1,"pp_size":1,"remote_num_tokens":300,"remote_blocks_expiry_time":null,"transfer_mode":"pull","remote_prefill_cached_tokens":0}`

const nixlAnswer = `{"id":"cmpl-pd-1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":" a","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_logprobs":null}],"usage":{"prompt_tokens":300,"total_tokens":301,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":288,"created_cache_tokens":null,"multimodal_tokens":null}},"kv_transfer_params":` + nixlParams + `}`

// Each leg is the client's request, byte for byte, but for the members that the
// engine's protocol names.
func TestLegsOnTheWire(t *testing.T) {
	const body = ` { "model":"m", "stream" : true,"stream_options":{"include_usage":true},"max_completion_tokens":9,"min_tokens":2,"stop":["x"],"return_token_ids":true,` +
		`"tools":[{"z":1, "a":{"b":[ ]}}],"kv_transfer_params":null,"messages":[{"role":"user","content":"é \"max_tokens\":1"}]}`
	const asked = `"model":"m","tools":[{"z":1, "a":{"b":[ ]}}],"messages":[{"role":"user","content":"é \"max_tokens\":1"}]}`
	const whole = `"model":"m","stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":9,"min_tokens":2,"stop":["x"],"return_token_ids":true,` +
		`"tools":[{"z":1, "a":{"b":[ ]}}],"messages":[{"role":"user","content":"é \"max_tokens\":1"}]}`
	const passed = `"model":"m","max_completion_tokens":9,"min_tokens":2,"stop":["x"],"return_token_ids":true,` +
		`"tools":[{"z":1, "a":{"b":[ ]}}],"kv_transfer_params":null,"messages":[{"role":"user","content":"é \"max_tokens\":1"}]}`
	trtState := `{"request_type":"context_only", "ctx_request_id":77,"first_gen_tokens":[9],"encoded_opaque_state":"AAE=","disagg_request_id":4398046511105}`
	for name, c := range map[string]struct {
		by                      handover
		answer, prefill, decode string
	}{
		"vLLM, NIXL": {nixl{}, nixlAnswer,
			`{"max_tokens":1,"stream":false,"min_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null},` + asked,
			`{"kv_transfer_params":` + nixlParams + `,` + whole},
		"vLLM, Mooncake": {mooncake{"t1", "http://p0:8998", "e-1"}, "",
			`{"max_tokens":1,"stream":false,"min_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"t1"},` + asked,
			`{"kv_transfer_params":{"do_remote_prefill":true,"do_remote_decode":false,"remote_bootstrap_addr":"http://p0:8998","remote_engine_id":"e-1","transfer_id":"t1"},` + whole},
		"SGLang": {bootstrap{"p0", "8998", 1 << 62}, "",
			`{"stream":false,"bootstrap_host":"p0","bootstrap_port":8998,"bootstrap_room":4611686018427387904,` + passed,
			`{"bootstrap_host":"p0","bootstrap_port":8998,"bootstrap_room":4611686018427387904,` + strings.Replace(whole, `"messages"`, `"kv_transfer_params":null,"messages"`, 1)},
		"TensorRT-LLM": {trtllm{1<<42 + 1}, `{"choices":[{"index":0,"finish_reason":"length","disaggregated_params":` + trtState + `}],"prompt_token_ids":[1, 2]}`,
			`{"max_tokens":1,"stream":false,"disaggregated_params":{"request_type":"context_only","disagg_request_id":4398046511105},` + asked,
			`{"disaggregated_params":{"request_type":"generation_only","ctx_request_id":77,"first_gen_tokens":[9],"encoded_opaque_state":"AAE=","disagg_request_id":4398046511105},"prompt_token_ids":[1, 2],` +
				strings.Replace(whole, `"messages"`, `"kv_transfer_params":null,"messages"`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := c.by.prefill([]byte(body))
			if err != nil || string(first) != c.prefill {
				t.Errorf("%v: the first leg is\n%s, want\n%s", err, first, c.prefill)
			}
			second, err := c.by.decode([]byte(body), []byte(c.answer))
			if err != nil || string(second) != c.decode {
				t.Errorf("%v: the second leg is\n%s, want\n%s", err, second, c.decode)
			}
			for _, b := range [][]byte{first, second} {
				if !json.Valid(b) {
					t.Errorf("not JSON: %s", b)
				}
			}
		})
	}
}

// A completion's prompt is replaced by the tokens that the context server made of
// it, and what is no state is not passed on.
func TestWhatACompletionIsHanded(t *testing.T) {
	second, err := trtllm{}.decode([]byte(`{"model":"m","prompt":"x"}`), []byte(`{"disaggregated_params":{"request_type":"context_only"},"prompt_token_ids":[7],"choices":[{"finish_reason":"not_finished"}]}`))
	if want := `{"disaggregated_params":{"request_type":"generation_only"},"prompt":[7],"model":"m"}`; err != nil || string(second) != want {
		t.Errorf("%v: %s", err, second)
	}
	for _, answer := range []string{`{}`, `{"kv_transfer_params":null}`, `[]`, `rubbish`, `{"choices":[{"disaggregated_params":{},"finish_reason":"stop"}]}`, `{"choices":[]}`} {
		for _, by := range []handover{nixl{}, trtllm{}} {
			if second, err := by.decode([]byte(`{"model":"m"}`), []byte(answer)); !errors.Is(err, errNothingHanded) {
				t.Errorf("%T makes %s of %s: %v", by, second, answer, err)
			}
		}
	}
}

// The first leg's account of the prompt takes the place of the second's, in
// answers and in events, and nothing else changes.
func TestTheFirstLegCountsWhatWasCached(t *testing.T) {
	for mine, want := range map[string]string{
		`{"usage":{"prompt_tokens":3,"prompt_tokens_details":null},"choices":[{"text":"\"prompt_tokens_details\":5"}]}`: `{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":288,"created_cache_tokens":null,"multimodal_tokens":null}},"choices":[{"text":"\"prompt_tokens_details\":5"}]}`,
		"data: {\"usage\":{\"prompt_tokens_details\": {\"cached_tokens\":0}}}\n\ndata: [DONE]\n\n":                      "data: {\"usage\":{\"prompt_tokens_details\": {\"cached_tokens\":288,\"created_cache_tokens\":null,\"multimodal_tokens\":null}}}\n\ndata: [DONE]\n\n",
		`{"usage":{"prompt_tokens":3}}`:         `{"usage":{"prompt_tokens":3}}`,
		`{"usage":{"prompt_tokens_details":{"c`: `{"usage":{"prompt_tokens_details":{"c`,
	} {
		s := &split{}
		raw := usageDetails([]byte(nixlAnswer))
		s.details.Store(&raw)
		if got := string(s.truthful(nil, []byte(mine))); got != want {
			t.Errorf("%s became\n%s, want\n%s", mine, got, want)
		}
	}
}

// FuzzLegs: whatever the client's body and the prefill worker's answer are, what is
// sent is JSON in which the client's other members are as they were.
func FuzzLegs(f *testing.F) {
	f.Add([]byte(`{"model":"m","prompt":[1,2],"stream":true}`), []byte(nixlAnswer))
	f.Add([]byte(`{"messages":[{"role":"user"}],"temperature":1e3}`), []byte(`{"choices":[{"disaggregated_params":{"a":1},"finish_reason":"length"}],"prompt_token_ids":[1]}`))
	f.Add([]byte(`{"a\u0062":1," ":[{}],"stop":null}`), []byte(`{"kv_transfer_params":{"x":{}}}`))
	own := map[string]bool{"bootstrap_host": true, "bootstrap_port": true, "bootstrap_room": true, "prompt": true, "prompt_token_ids": true}
	for _, name := range firstLegDrops {
		own[name] = true
	}
	f.Fuzz(func(t *testing.T, body, answer []byte) {
		if _, _, err := findFields(body); err != nil || !json.Valid(answer) || json.Unmarshal(body, new(map[string]any)) != nil {
			return
		}
		keep := func(b []byte) map[string]any {
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatalf("%v: %s, of %s", err, b, body)
			}
			for name := range m {
				if own[name] {
					delete(m, name)
				}
			}
			return m
		}
		was := keep(body)
		for _, by := range []handover{nixl{}, mooncake{"t", "http://h:1", "e"}, bootstrap{"h", "1", 2}, trtllm{1}} {
			first, err := by.prefill(body)
			if err != nil || !reflect.DeepEqual(keep(first), was) {
				t.Fatalf("%T, %v: the first leg of %s is %s", by, err, body, first)
			}
			second, err := by.decode(body, answer)
			if err == nil && !reflect.DeepEqual(keep(second), was) {
				t.Fatalf("%T: the second leg of %s is %s", by, body, second)
			}
		}
	})
}
