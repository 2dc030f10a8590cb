package gateway

import (
	"encoding/json"
	"fmt"
)

// probe is a prompt whose tokens are asked of an engine and counted here. It
// holds nobody's text, so what it shows may be logged.
type probe struct {
	name     string
	endpoint endpoint
	body     string // of the request, without its model
}

// of is the probe as a request for a model.
func (p probe) of(model string) []byte {
	name, _ := json.Marshal(model) // a string always can be
	return fmt.Appendf(nil, `{"model":%s,%s`, name, p.body[1:])
}

// probes tell tokenizers and templates apart that are nearly the same: split
// patterns, normalisation, added tokens, BOS, the template's branches.
var probes = []probe{
	{"plain", endpointCompletion, `{"prompt":"The quick brown fox jumps over the lazy dog. It'll be OK, won't it?"}`},
	{"unicode", endpointCompletion, `{"prompt":"naïve café, e\u0301 ﬁ Ⅷ; Привет, мир! 你好，世界。 नमस्ते שלום 👩‍👩‍👧‍👦🇮🇸 \u200b\u00a0\ufeff"}`},
	{"whitespace", endpointCompletion, `{"prompt":"  two\n\n\tdef f(x):\r\n        return  x   \n "}`},
	{"numbers", endpointCompletion, `{"prompt":"1 12 123 1234 1234567890 3.14159 0x1F 1,000,000 ²³ ٣٤"}`},
	{"special", endpointCompletion, `{"prompt":"<|im_start|>user\n<s>[INST] <|endoftext|> </s><|eot_id|><unk>"}`},
	{"no specials", endpointCompletion, `{"prompt":"no BOS here","add_special_tokens":false}`},
	{"user", endpointChat, `{"messages":[{"role":"user","content":"Hello, how are you?"}]}`},
	{"system", endpointChat, `{"messages":[{"role":"system","content":"You are terse."},{"role":"user","content":" Hi \n"}]}`},
	{"turns", endpointChat, `{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"What's 2+2?"},{"role":"assistant","content":"4, of course."},{"role":"user","content":"Und auf Deutsch? 谢谢 🙂"}]}`},
	{"parts", endpointChat, `{"messages":[{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]}`},
	{"no generation prompt", endpointChat, `{"messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"}],"add_generation_prompt":false}`},
	{"continued", endpointChat, `{"messages":[{"role":"user","content":"Count."},{"role":"assistant","content":"One, two,"}],"add_generation_prompt":false,"continue_final_message":true}`},
	{"tools", endpointChat, `{"messages":[{"role":"user","content":"Weather in Zürich?"}],"tools":[` + probeTool + `]}`},
	{"tool call", endpointChat, `{"messages":[{"role":"user","content":"Weather in Zürich?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call12345","type":"function","function":{"name":"weather","arguments":"{\"city\": \"Zürich\", \"days\": 2.0}"}}]},{"role":"tool","tool_call_id":"call12345","content":"{\"sky\":\"clear\"}"},{"role":"assistant","content":"Clear."},{"role":"user","content":"And tomorrow?"}],"tools":[` + probeTool + `]}`},
	{"template arguments", endpointChat, `{"messages":[{"role":"user","content":"Think."}],"chat_template_kwargs":{"enable_thinking":false}}`},
}

const probeTool = `{"type":"function","function":{"name":"weather","description":"The weather, \"now\" <or> later & so on","parameters":{"type":"object","properties":{"city":{"type":"string","description":"a city's name"},"days":{"type":"number","minimum":0.5}},"required":["city"]}}}`
