package embedded

import (
	"encoding/json"
	"testing"
)

func TestBadFieldsAreNamed(t *testing.T) {
	for body, param := range map[string]string{
		`{"temperature":-1}`:                         "temperature",
		`{"temperature":"hot"}`:                      "temperature",
		`{"top_p":0}`:                                "top_p",
		`{"top_p":1.1}`:                              "top_p",
		`{"top_k":-2}`:                               "top_k",
		`{"min_p":2}`:                                "min_p",
		`{"presence_penalty":3}`:                     "presence_penalty",
		`{"frequency_penalty":-3}`:                   "frequency_penalty",
		`{"repetition_penalty":0}`:                   "repetition_penalty",
		`{"n":0}`:                                    "n",
		`{"n":129}`:                                  "n",
		`{"best_of":2}`:                              "best_of",
		`{"max_tokens":0}`:                           "max_tokens",
		`{"max_tokens":1.5}`:                         "max_tokens",
		`{"min_tokens":5,"max_tokens":4}`:            "min_tokens",
		`{"stop":[""]}`:                              "stop",
		`{"stop":{"a":1}}`:                           "stop",
		`{"stop_token_ids":[100]}`:                   "stop_token_ids",
		`{"stop_token_ids":[-1]}`:                    "stop_token_ids",
		`{"logit_bias":{"x":1}}`:                     "logit_bias",
		`{"logit_bias":{"100":1}}`:                   "logit_bias",
		`{"response_format":{"type":"json_object"}}`: "response_format",
		`{"structured_outputs":{"regex":"a"}}`:       "structured_outputs",
		`{"use_beam_search":true}`:                   "use_beam_search",
		`{"stream_options":{"include_usage":true}}`:  "stream_options",
		`{"stream":true,"stream_options":{"include_usage":1}}`: "stream_options.include_usage",
		`{"cache_salt":7}`: "cache_salt",
	} {
		var g generation
		var err *apiError
		if bad := json.Unmarshal([]byte(body), &g); bad != nil {
			err = asAPIError(bad)
		} else {
			_, err = g.validate(100)
		}
		if err == nil || err.status != 400 || err.Param == nil || *err.Param != param {
			t.Errorf("%s: want an error that names %s, got %+v", body, param, err)
		}
	}
}

func TestGoodFieldsAreTaken(t *testing.T) {
	var g generation
	body := `{"temperature":0,"top_k":-1,"max_tokens":7,"min_tokens":2,"stop":"x","seed":-3,"n":2,"logit_bias":{"5":-100},
		"stream":true,"stream_options":{"include_usage":true},"response_format":{"type":"text"},"skip_special_tokens":false,"unknown":[]}`
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	o, err := g.validate(100)
	if err != nil {
		t.Fatal(err)
	}
	if o.temperature != 0 || o.topK != 0 || o.maxTokens != 7 || o.minTokens != 2 || len(o.stops) != 1 || o.n != 2 ||
		o.bias[5] != -100 || !o.stream || !o.includeUsage || o.skipSpecial || o.topP != 1 {
		t.Errorf("got %+v", o)
	}
}

func TestPromptForms(t *testing.T) {
	for body, want := range map[string]int{
		`"hello"`: 1, `""`: 1, `["a","b"]`: 2, `[1,2,3]`: 1, `[[1],[2,3]]`: 2, `["a",[1]]`: 2,
		`null`: 0, `[]`: 0, `[[]]`: 0, `[null]`: 0, `[1,"a"]`: 0, `[1.5]`: 0, `[-1]`: 0, `{}`: 0, `7`: 0, ``: 0,
	} {
		got, err := parsePrompts(json.RawMessage(body))
		if len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %d prompts, %v; want %d", body, len(got), err, want)
		}
		if err != nil && *err.Param != "prompt" {
			t.Errorf("%s: the error names %s", body, *err.Param)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"model":"m","prompt":["a",[1]],"stop":["x"],"logit_bias":{"1":2},"logprobs":3}`))
	f.Add([]byte(`{"messages":[],"stream":true,"stream_options":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req completionRequest
		if err := json.Unmarshal(body, &req); err != nil {
			if asAPIError(err).status != 400 {
				t.Fatal("a body that cannot be read is the client's fault")
			}
			return
		}
		if o, err := req.validate(100); err == nil && (o.n < 1 || o.temperature < 0 || o.topP <= 0) {
			t.Fatalf("accepted %+v", o)
		}
		if prompts, err := parsePrompts(req.Prompt); err == nil && len(prompts) == 0 {
			t.Fatal("no prompt and no error")
		}
	})
}
