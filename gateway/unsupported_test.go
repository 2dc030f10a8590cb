package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tokenizerFile is a model folder with this tokenizer.json.
func tokenizerFile(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A model whose tokenizer is of a kind that does not run here is served, with the
// tokens that its engine gives, and the log says so once.
func TestATokenizerThatDoesNotRunHereIsTheEngines(t *testing.T) {
	for kind, file := range map[string]string{
		"WordPiece": `{"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece"},
			"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","vocab":{"[UNK]":0,"a":1,"##b":2}}}`,
		"Unigram": `{"pre_tokenizer":{"type":"Metaspace"},"decoder":{"type":"Metaspace"},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1.5]]}}`,
	} {
		t.Run(kind, func(t *testing.T) {
			s := newSetting(t, 1, func(c *Config) { c.Models = []Model{{Name: "m", Tokenizer: tokenizerFile(t, file)}} })
			if log := s.logs.String(); strings.Count(log, "does not run here") != 1 || !strings.Contains(log, kind) {
				t.Errorf("the log says\n%s", log)
			}
			for _, prompt := range []string{`"prompt":"some text"`, `"messages":[{"role":"user","content":"some text"}]`} {
				path, endpoint := "/v1/completions", endpointCompletion
				if strings.Contains(prompt, "messages") {
					path, endpoint = "/v1/chat/completions", endpointChat
				}
				body := `{"model":"m","max_tokens":2,` + prompt + `}`
				if r := s.post(path, body); r.status != 200 {
					t.Errorf("%s: %d %s", path, r.status, r.body)
				}
				q, err := parseInference(endpoint, []byte(body))
				if err != nil {
					t.Fatal(err)
				}
				p, err := s.g.tokenize(t.Context(), q)
				if err != nil || p.from != fromEngine || !slices.Equal(p.tokens, []uint32{5, 6, 7}) {
					t.Errorf("%s: %+v, %v; want the engine's tokens 5 6 7", path, p, err)
				}
			}
			if r := s.post("/tokenize", `{"model":"m","prompt":"some text"}`); r.status != 200 || !strings.Contains(string(r.body), "[5,6,7]") {
				t.Errorf("/tokenize: %d %s", r.status, r.body)
			}
		})
	}
}

// A prompt that an unknown split pattern would take too long to split is tokenized
// by the engine; others of the same model are tokenized here.
func TestAPromptTooCostlyToSplitIsTheEngines(t *testing.T) {
	model := withTemplate(t, byteModel(t), "", "")
	path := filepath.Join(model, "tokenizer.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := `"pre_tokenizer":` + splitAsIs(t, string(b))
	unknown := `"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[a-z]+(?=\\d)|[^\\d]"},"behavior":"Isolated","invert":false},
		{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, unknown, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSetting(t, 1, func(c *Config) { c.Models = []Model{{Name: "m", Tokenizer: model}} })
	tokens := func(text string) *promptTokens {
		q, err := parseInference(endpointCompletion, []byte(`{"model":"m","prompt":"`+text+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.g.tokenize(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := tokens("abc1"); p.from != fromGateway || !slices.Equal(p.tokens, []uint32{'a', 'b', 'c', '1'}) {
		t.Errorf("%+v", p)
	}
	if p := tokens(strings.Repeat("x ", 1<<20)); p.from != fromEngine {
		t.Errorf("2 MB: from %s", p.from)
	}
}

// splitAsIs is the value of pre_tokenizer as file has it.
func splitAsIs(t *testing.T, file string) string {
	t.Helper()
	_, rest, ok := strings.Cut(file, `"pre_tokenizer":`)
	if !ok {
		t.Fatalf("no pre_tokenizer in %.300s", file)
	}
	depth := 0
	for i, c := range rest {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return rest[:i+1]
			}
		}
	}
	t.Fatal("pre_tokenizer does not end")
	return ""
}
