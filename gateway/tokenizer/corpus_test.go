package tokenizer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// seeded is a random source whose seed the test prints; KVASIR_SEED repeats one.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// effort is how many times larger than usual the randomised tests shall be:
// KVASIR_EFFORT, 1 if unset.
func effort(t testing.TB) int {
	t.Helper()
	s := os.Getenv("KVASIR_EFFORT")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("KVASIR_EFFORT=%q; expected a number from 1", s)
	}
	return n
}

var alphabets = []string{
	"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "   \t\n\r\u00a0\u2003\u3000\u0085\u2028\v\f",
	"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "éèüßñçøåÆŒİıſKÅǅʰªº", "абвгдежзАБВГДЕЖЗіїѐ", "αβγδάέΑΒΓΩ", "你好世界的一是不了人我在有他这中大来上",
	"日本語ひらがなカタカナーゞ々〇", "한국어안녕하세요ㄱㅏ", "한각", "नमस्तेकािीु", "مرحبابالعالمًٌ", "שלוםָ", "ไทยสวัสดีครับ็่",
	"\u0301\u0308\u0323\u0327\u0345\u20d0\ufe0f\u200d\u200b\u00ad\ufeff", "😀👍🏽👨‍👩‍👧‍👦🇩🇪❤️", "½²٣৪Ⅷⅳ①𝟘㊀〡", "€£¥±×÷←→∀∂∑√≈≠≤≥",
	"\x00\x01\x04\x1b\x1f\x7f\u0080\u009f", "\u0378\ue000\U000F0000\U0010FFFD\uFFFD\uFFFF", "\u1e9b\u0323\u212b\u2126\uf900\ufb01\uac00\u11a8\u1100\u1161\U00011099\U000110BA\U00016D63\U00016D67\U000113C2",
}

var fragments = []string{
	"'s", "'S", "'ll", "'LL", "'Ve", "'re", "'t", "'m", "'d", "'ſ", "’s", "don't", "I'M", "we'LL've", "\r\n", "\n\n", " \n", "\n ", "  \n  ", "\t\t",
	"    ", "/**/", "//", " //\n/", "://", "<|", "|>", "<s>", "</s>", "<0x0A>", "▁", "▁▁", "Ġ", "Ċ", "http://example.com/a?b=c&d=1", "foo_bar", "camelCaseWord",
	"HTTPServer", "x86_64", "3.14159", "1,000,000", "0xdeadbeef", "ﬀﬁ", "ａｂｃ１２３", "hello", " world", " the", "ing", "Straße", "naïve", "e\u0301", "\u1100\u1161\u11a8",
	"if (x == 1) {\n\treturn;\n}", "aaaaaaaaaaaaaaaaaaaa", "----------------", "................", "\u3000\u3000", "👩🏽‍🚀",
}

// randomText is an adversarial string: mixtures of scripts, spaces, fragments
// that split patterns treat specially, and the tokenizer's own added tokens.
func randomText(r *rand.Rand, special []string) string {
	var b strings.Builder
	for range 1 + r.IntN(12) {
		switch k := r.IntN(20); {
		case k < 10:
			alphabet := []rune(alphabets[r.IntN(len(alphabets))])
			for range 1 + r.IntN(8) {
				b.WriteRune(alphabet[r.IntN(len(alphabet))])
			}
		case k < 15:
			b.WriteString(fragments[r.IntN(len(fragments))])
		case k < 16 && len(special) > 0:
			s := special[r.IntN(len(special))]
			b.WriteString(s[:len(s)-r.IntN(2)*r.IntN(len(s))])
		case k < 17:
			b.WriteString(strings.Repeat(fragments[r.IntN(len(fragments))], 1+r.IntN(40)))
		case k < 18 && r.IntN(8) == 0: // more marks than package norm lets pass
			marks := []rune("\u0301\u0308\u0323\u0327\u0345")
			for range 20 + r.IntN(60) {
				b.WriteRune(marks[r.IntN(len(marks))])
			}
		case k < 18:
			c := rune(r.IntN(0x110000))
			if !utf8.ValidRune(c) {
				c = utf8.RuneError
			}
			b.WriteString(strings.Repeat(string(c), 1+r.IntN(3)))
		default:
			b.WriteByte(' ')
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// corpus is real text that the machine has: code, prose, multilingual, or chats;
// empty if it has none. It holds at most limit bytes.
func corpus(t testing.TB, name string, limit int) string {
	t.Helper()
	if name == "chat" {
		return chats(t, limit)
	}
	patterns := map[string][]string{
		"prose": {"/usr/share/doc/git/RelNotes/*.txt", "/usr/share/vim/vim*/doc/*.txt", "/usr/share/perl/5*/pod/*.pod"},
		"multi": {"/usr/share/vim/vim*/tutor/tutor.*.utf-8", "/usr/share/vim/vim*/tutor/tutor.utf-8", "/usr/share/locale/ja/LC_MESSAGES/*.mo",
			"/usr/share/locale/zh_CN/LC_MESSAGES/*.mo", "/usr/share/locale/ru/LC_MESSAGES/*.mo", "/usr/share/locale/[a-z]*/LC_MESSAGES/*.mo"},
	}
	if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		src := filepath.Join(strings.TrimSpace(string(out)), "src")
		http := filepath.Join(src, "net", "http")
		patterns["code"] = []string{filepath.Join(http, "*.go")}
		_ = filepath.WalkDir(src, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" && filepath.Dir(path) != http {
				patterns["code"] = append(patterns["code"], path)
			}
			return nil
		})
	}
	var b strings.Builder
	for _, pattern := range patterns[name] {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if content, err := os.ReadFile(path); err == nil {
				b.WriteString(strings.ReplaceAll(strings.ToValidUTF8(string(content), ""), "\x00", "\n"))
			}
			if b.Len() >= limit {
				return strings.ToValidUTF8(b.String()[:limit], "")
			}
		}
	}
	return b.String()
}

// chats is the conversations of the shared test data as models see them.
func chats(t testing.TB, limit int) string {
	file, err := readFile(filepath.Join("..", "..", "..", "shared", "data", "chat-templates", "cases.jsonl.gz"))
	if err != nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(file)) {
		var c struct{ Output, Template string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		b.WriteString(c.Output + c.Template)
		if b.Len() >= limit {
			return strings.ToValidUTF8(b.String()[:limit], "")
		}
	}
	return b.String()
}

var corpora = []string{"code", "prose", "multi", "chat"}

// chunks cuts text into parts of about size bytes, at runes.
func chunks(text string, size int) (parts []string) {
	for len(text) > size {
		end := size
		for !utf8.RuneStart(text[end]) {
			end++
		}
		parts = append(parts, text[:end])
		text = text[end:]
	}
	return append(parts, text)
}

// everyRune yields a text for each block of 256 code points: each of them alone
// and in contexts that split patterns look at.
func everyRune(yield func(block int, text string)) {
	for block := range 0x1100 {
		var b strings.Builder
		for c := rune(block << 8); c < rune(block+1)<<8; c++ {
			if utf8.ValidRune(c) {
				fmt.Fprintf(&b, "%c a%cb A%cB %c%c 1%c2 '%c  %c\n%c'%c", c, c, c, c, c, c, c, c, c, c)
			}
		}
		if b.Len() > 0 {
			yield(block, b.String())
		}
	}
}
