package dialect

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/golden.jsonl from what the engine's code gives")

// golden is one chat and the text of what the engine makes of it.
type golden struct {
	Renderer string          `json:"renderer"`
	Request  json.RawMessage `json:"request"`
	Text     string          `json:"text,omitempty"`
	Refused  bool            `json:"refused,omitempty"`
}

// goldenRenderers are the renderers whose prompts can be told from their text.
var goldenRenderers = []struct {
	name     string
	renderer chattemplate.Renderer
}{
	{"harmony", chattemplate.Harmony{}},
	{"deepseek_v32", chattemplate.DeepSeekV32{}},
	{"deepseek_v4", chattemplate.DeepSeekV4{}},
	{"tekken-v3", chattemplate.Mistral{Version: 3}},
	{"tekken-v7", chattemplate.Mistral{Version: 7}},
	{"tekken-v11", chattemplate.Mistral{Version: 11}},
	{"tekken-v13", chattemplate.Mistral{Version: 13, Thinks: true}},
	{"tekken-v15", chattemplate.Mistral{Version: 15, Thinks: true, Efforts: []string{"none", "high"}, Effort: "none"}},
}

// TestGoldenChats holds the renderers to what the engine's code made of some chats,
// also where there is no Python. The chats are written anew, with the versions that
// make test-deps installs, by
//
//	. .cache/test.env && go test ./gateway/dialect -run TestGoldenChats -rewrite
func TestGoldenChats(t *testing.T) {
	path := filepath.Join("testdata", "golden.jsonl")
	if *rewrite {
		writeGolden(t, path)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	renderers := map[string]chattemplate.Renderer{}
	for _, r := range goldenRenderers {
		renderers[r.name] = r.renderer
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		prompt, err := renderers[g.Renderer].Prompt(chatOf(t, g.Request))
		var invalid *chattemplate.InvalidError
		if g.Refused != errors.As(err, &invalid) || prompt.String() != g.Text {
			t.Errorf("%s: %s\ngot  %q, %v\nwant %q", g.Renderer, g.Request, prompt, err, g.Text)
		}
	}
	if lines.Err() != nil || n < 100 {
		t.Fatalf("%d chats, %v", n, lines.Err())
	}
}

func writeGolden(t *testing.T, path string) {
	r := newReference(t)
	files := map[string]string{}
	for _, file := range mistralModels(t) {
		files[filepath.Base(filepath.Dir(file))] = file
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for i, one := range goldenRenderers {
		g := &chatGen{Rand: rand.New(rand.NewPCG(uint64(i), 0))}
		if m, ok := one.renderer.(chattemplate.Mistral); ok {
			g.mistral = m.Version
		}
		for range 15 {
			request, err := json.Marshal(g.request())
			if err != nil {
				t.Fatal(err)
			}
			job := object{"engine", one.name, "date", clock.Format("2006-01-02"), "request", json.RawMessage(request), "text", true}
			if strings.HasPrefix(one.name, "tekken") {
				job = append(job[2:], "engine", "mistral", "model", files[one.name])
			}
			a := r.render(job)
			if err := enc.Encode(golden{Renderer: one.name, Request: request, Text: a.Text, Refused: a.Error != ""}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
