package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// One word of 100 KB, and other text that offers no place to cut: work must not
// grow with the square of its length, or this test takes hours.
func TestOneHugeWord(t *testing.T) {
	texts := map[string]string{
		"letters": strings.Repeat("abcdefghij", 10_000), "same": strings.Repeat("a", 25_000), "marks": strings.Repeat("\u0301", 100_000),
		"upper": strings.Repeat("\u0301A", 25_000), "cased": strings.Repeat("aA", 50_000), "spaces": strings.Repeat(" ", 100_000) + "x",
		"newlines": strings.Repeat(" \n", 50_000), "kana": strings.Repeat("あ漢", 15_000), "apostrophes": strings.Repeat("'", 100_000),
		"almost special": strings.Repeat("<|se", 100_000),
	}
	for name, model := range golden(t).Models {
		if name == "bytes-unknown-pattern" {
			continue // that pattern backtracks over all of it, on any regex engine
		}
		tok, err := LoadJSON(model.Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		for kind, text := range texts {
			ids := tok.Encode(nil, text, false)
			if len(ids) == 0 {
				t.Errorf("%s, %s: no ids", name, kind)
			}
		}
	}
}

// The heap and the scan are two ways to the same merges.
func TestHeapMergesAsTheScanDoes(t *testing.T) {
	r := seeded(t)
	for name, model := range golden(t).Models {
		tok, err := LoadJSON(model.Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		e := &encoder{t: tok}
		symbols := e.symbolsBytes
		if tok.spm {
			symbols = e.symbolsSPM
		}
		for range 200 * effort(t) {
			word := randomText(r, nil)
			for len(word) > maxScanned {
				word = word[:len(word)/2]
			}
			word = strings.ToValidUTF8(word, "")
			symbols(word)
			e.merge()
			scanned := slices.Clone(e.ids)
			symbols(word)
			e.mergeHeap()
			if d := difference(e.ids, scanned); d != "" {
				t.Fatalf("%s: %q: heap against scan: %s", name, word, d)
			}
		}
	}
}

// Cutting where no piece spans changes nothing.
func TestCutsAreExact(t *testing.T) {
	r := seeded(t)
	for name, model := range golden(t).Models {
		tok, err := LoadJSON(model.Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		if tok.cuts == nil {
			continue
		}
		e := &encoder{t: tok}
		for range 200 * effort(t) {
			word := strings.ReplaceAll(randomText(r, nil), spaceMark, " ")
			whole := []uint32{tok.whole(word)}
			if whole[0] == none {
				e.mergeSymbols(word)
				whole = slices.Clone(e.ids)
			}
			e.dst = nil
			e.longWord(word)
			if d := difference(e.dst, whole); d != "" {
				t.Fatalf("%s: %q: cut against whole: %s", name, word, d)
			}
		}
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	for name, model := range golden(t).Models {
		if !strings.HasPrefix(name, "bytes-") || name == "bytes-unknown-pattern" || name == "bytes-cl100k-flags" || name == "bytes-o200k-nfc" || name == "bytes-prefix-space" {
			continue // regex engine, and normalized added tokens
		}
		tok, err := LoadJSON(model.Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("func main() { fmt.Println(\"héllo, 世界 12345\") }\n\n\t// the quick brown fox\n", 50)
		dst := tok.Encode(nil, text, true)
		if n := testing.AllocsPerRun(20, func() { dst = tok.Encode(dst[:0], text, true) }); n >= 1 {
			t.Errorf("%s: %v allocations a call", name, n)
		}
	}
}

func TestUnsupportedModelsAreRefused(t *testing.T) {
	f := func(name, file string) {
		t.Helper()
		if _, err := LoadJSON([]byte(file)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	f("WordPiece", `{"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"a":0}}}`)
	f("Unigram", `{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1.5]]}}`)
	f("dropout", `{"model":{"type":"BPE","dropout":0.5,"vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)
	f("unknown pre-tokenizer", `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"UnicodeScripts"},{"type":"ByteLevel"}]},"decoder":{"type":"ByteLevel"}}`)
	f("unknown normalizer", `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)
	f("merge of no piece", `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)
	f("huge id", `{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)
	f("truncated", `{"model":{"type":"BPE","vocab":{"a":0`)
	f("nested", strings.Repeat(`{"a":`, 100))
}

// A folder's other files: added tokens merged, special tokens, ends, template.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("tokenizer.json", string(golden(t).Models["bytes-smollm"].Tokenizer))
	put("tokenizer_config.json", `{"added_tokens_decoder":{"2":{"content":"</s>","rstrip":true,"special":true},"900":{"content":"<tool>","special":false}},
		"bos_token":"<s>","eos_token":{"content":"</s>"},"pad_token":null,"add_bos_token":true,"chat_template":[{"name":"other","template":"x"},{"name":"default","template":"hi"}]}`)
	put("special_tokens_map.json", `{"pad_token":"<pad>","unk_token":"<unk>"}`)
	put("generation_config.json", `{"eos_token_id":[2,7]}`)
	for _, path := range []string{dir, filepath.Join(dir, "tokenizer.json")} {
		tok := mustLoad(t, path)
		if got := tok.SpecialTokens(); len(got) != 3 || got["bos_token"] != "<s>" || got["eos_token"] != "</s>" || got["unk_token"] != "<unk>" {
			t.Errorf("special tokens: %v", got)
		}
		if bos, ok := tok.BOS(); !ok || bos != 1 || !slices.Equal(tok.EOS(), []uint32{2, 7}) {
			t.Errorf("BOS %v %v, EOS %v", bos, ok, tok.EOS())
		}
		if tok.ChatTemplate() != "hi" {
			t.Errorf("template %q", tok.ChatTemplate())
		}
		tool, ok := tok.ID("<tool>")
		if !ok || tok.IsSpecial(tool) || !tok.IsSpecial(1) {
			t.Errorf("<tool>: id %v %v", tool, ok)
		}
		if got, want := tok.Encode(nil, "</s>  \n<tool>", true), []uint32{1, 2, tool}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v: BOS in front, spaces after </s> stripped", got, want)
		}
	}
	put("chat_template.jinja", "from its own file")
	if got := mustLoad(t, dir).ChatTemplate(); got != "from its own file" {
		t.Errorf("template %q", got)
	}
}

// The first of the leftmost, and of those the longest, added token is found.
func TestAddedTokensAgainstSearch(t *testing.T) {
	r := seeded(t)
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "<|a"[r.IntN(3)]
		}
		return string(b)
	}
	for range 3000 * effort(t) {
		var tokens []addedToken
		for range 1 + r.IntN(5) {
			content := letters(1 + r.IntN(4))
			if !slices.ContainsFunc(tokens, func(a addedToken) bool { return a.content == content }) {
				tokens = append(tokens, addedToken{content: content})
			}
		}
		text := letters(r.IntN(12))
		wantAt, want := len(text), ""
		for _, a := range tokens {
			if at := strings.Index(text, a.content); at >= 0 && (at < wantAt || at == wantAt && len(a.content) > len(want)) {
				wantAt, want = at, a.content
			}
		}
		at, found := newMatcher(tokens).next(text, 0)
		if (found == nil) != (want == "") || found != nil && (at != wantAt || found.content != want) {
			t.Fatalf("%q among %v: got %d %v, want %d %q", text, tokens, at, found, wantAt, want)
		}
	}
}
