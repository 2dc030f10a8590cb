package tokenizer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// Whatever a tokenizer does not change on purpose, by NFC or a strip flag or
// SentencePiece's mark for spaces, or has no piece for, comes back as it was.
func TestDecodingGivesTheTextBack(t *testing.T) {
	r := seeded(t)
	paths := map[string]func(t *testing.T) string{
		"smollm2": func(t *testing.T) string {
			path := os.Getenv("KVASIR_SMOLLM2")
			if path == "" {
				t.Skip("set KVASIR_SMOLLM2 to SmolLM2-135M-Instruct's GGUF file")
			}
			return path
		},
	}
	for _, name := range []string{"qwen", "gptoss", "phi3"} {
		paths[name] = func(t *testing.T) string { return shared(t, name) }
	}
	for _, name := range []string{"llama3", "deepseek", "tekken"} {
		paths[name] = func(t *testing.T) string { return filepath.Join(furtherModels(t), name) }
	}
	for name, path := range paths {
		t.Run(name, func(t *testing.T) {
			tok := mustLoad(t, path(t))
			var special []string
			for content, a := range tok.added {
				if !tok.spm && !a.lstrip && !a.rstrip && !a.normalized {
					special = append(special, content)
				}
			}
			kept := 0
			check := func(text string) {
				if tok.drops(text) || tok.normalizer.nfc && norm.NFC.String(text) != text || tok.spm && strings.ContainsAny(text, spaceMark+"<|") {
					return
				}
				kept++
				if got := string(tok.Decode(nil, tok.Encode(nil, text, false), false)); got != text {
					t.Fatalf("%.300q comes back as %.300q", text, got)
				}
			}
			for range 1000 * effort(t) {
				check(randomText(r, special))
			}
			for _, kind := range corpora {
				parts := chunks(corpus(t, kind, 2_000_000), 5000)
				for range 20 * effort(t) {
					check(parts[r.IntN(len(parts))])
				}
			}
			everyRune(func(block int, text string) {
				if r.IntN(20) < effort(t) {
					check(text)
				}
			})
			if kept < 400 {
				t.Fatalf("only %d texts were checked", kept)
			}
		})
	}
}

// decoding is one way to make text of ids.
type decoding struct {
	tok  *Tokenizer
	skip bool
	stop []string
}

// whole is the text of ids in one go, ended at the first stop string: of those
// that end first the longest.
func (d decoding) whole(ids []uint32) string {
	text := string(d.tok.Decode(nil, ids, d.skip))
	for end := range len(text) + 1 {
		longest := 0
		for _, s := range d.stop {
			if strings.HasSuffix(text[:end], s) {
				longest = max(longest, len(s))
			}
		}
		if longest > 0 {
			return text[:end-longest]
		}
	}
	return text
}

// check streams ids and ends the stream after each of them: what came by then is
// the whole decode of as many. What follows a prompt that ends there continues it.
func (d decoding) check(t *testing.T, ids []uint32) {
	t.Helper()
	for k := range len(ids) + 1 {
		stream := d.tok.NewDecoder(DecoderOptions{SkipSpecial: d.skip, Stop: d.stop})
		said := ""
		for _, id := range ids[:k] {
			part, _ := stream.Push(id)
			said += part
		}
		settled := stream.started && stream.strip == 0 && len(stream.bytes) == 0 && len(d.stop) == 0
		if said += stream.Flush(); said != d.whole(ids[:k]) {
			t.Fatalf("%v, skip %v, stop %q: streamed %q, whole %q", ids[:k], d.skip, d.stop, said, d.whole(ids[:k]))
		}
		if !settled {
			continue
		}
		rest := d.tok.NewDecoder(DecoderOptions{SkipSpecial: d.skip, Continuation: true})
		for _, id := range ids[k:] {
			part, _ := rest.Push(id)
			said += part
		}
		if said += rest.Flush(); said != d.whole(ids) {
			t.Fatalf("%v after a prompt of %d of them, skip %v: %q, whole %q", ids, k, d.skip, said, d.whole(ids))
		}
	}
}

// interesting is ids that decoders treat each in its own way: specials, the bytes of
// whole and of broken characters, spaces, letters, a hole and what is no id at all.
func interesting(tok *Tokenizer) (ids []uint32) {
	seen := map[uint32]bool{}
	add := func(id uint32, ok bool) {
		if ok && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, name := range []string{"<s>", "</s>", "<tool>", " ", "▁", "a", " the", "▁the", "é", "世"} {
		add(tok.ID(name))
	}
	for _, b := range []byte{'a', ' ', 0xC3, 0xA9, 0xE4, 0xB8, 0x96, 0xFF} {
		if id := tok.byteID[b]; id != none {
			add(id, true)
		}
	}
	add(uint32(tok.VocabSize()+5), true)
	return ids
}

// Every list of up to three such ids, and longer ones at random.
func TestEveryStreamIsTheWholeDecode(t *testing.T) {
	r := seeded(t)
	for name, model := range golden(t).Models {
		t.Run(name, func(t *testing.T) {
			tok, err := LoadJSON(model.Tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			ids := interesting(tok)
			for _, skip := range []bool{false, true} {
				for _, stop := range [][]string{nil, {"a"}, {" a", "é"}, {"\uFFFD"}, {"aa", "a a", "世"}} {
					d := decoding{tok, skip, stop}
					var list []uint32
					var all func(depth int)
					all = func(depth int) {
						d.check(t, list)
						if depth == 0 {
							return
						}
						for _, id := range ids {
							list = append(list, id)
							all(depth - 1)
							list = list[:len(list)-1]
						}
					}
					if stop == nil || effort(t) > 1 {
						all(3)
					} else {
						all(2)
					}
					for range 20 * effort(t) {
						list = list[:0]
						for range r.IntN(40) {
							list = append(list, ids[r.IntN(len(ids))])
						}
						d.check(t, list)
						list = tok.Encode(list[:0], randomText(r, nil), false)
						list = list[:min(len(list), 40)]
						for range r.IntN(6) {
							list = append(list, uint32(r.IntN(tok.VocabSize()+2)))
						}
						d.check(t, list)
					}
				}
			}
		})
	}
}

func TestInterestingIDsAreManyKinds(t *testing.T) {
	for _, name := range []string{"bytes-smollm", "spm-legacy"} {
		tok, err := LoadJSON(golden(t).Models[name].Tokenizer)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]bool{}
		for _, id := range interesting(tok) {
			if int(id) >= tok.VocabSize() {
				kinds["no id"] = true
				continue
			}
			kinds[fmt.Sprint(tok.pieces[id].kind, tok.pieces[id].special)] = true
		}
		if len(kinds) < 3 {
			t.Errorf("%s: only %v", name, kinds)
		}
	}
}
