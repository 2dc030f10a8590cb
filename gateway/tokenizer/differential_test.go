package tokenizer

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// subject is a tokenizer under test beside the reference that runs it.
type subject struct {
	*Tokenizer
	ref *reference
}

// subjects runs test on the shared vocabularies, on SmolLM2's from GGUF and on
// those in the folders of KVASIR_TOKENIZERS.
func subjects(t *testing.T, test func(t *testing.T, s subject)) {
	for _, name := range []string{"qwen", "gptoss", "phi3"} {
		t.Run(name, func(t *testing.T) {
			path := shared(t, name)
			test(t, subject{mustLoad(t, path), newReference(t, path)})
		})
	}
	t.Run("smollm2", func(t *testing.T) {
		path := os.Getenv("KVASIR_SMOLLM2")
		if path == "" {
			t.Skip("set KVASIR_SMOLLM2 to SmolLM2-135M-Instruct's GGUF file")
		}
		b, err := exec.Command(python(t), filepath.Join("testdata", "gguf_to_json.py"), path).Output()
		if err != nil {
			t.Fatalf("the reference's tokenizer.json: %v", err)
		}
		twin := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(twin, b, 0o600); err != nil {
			t.Fatal(err)
		}
		test(t, subject{mustLoad(t, path), newReference(t, twin)})
	})
	dir := os.Getenv("KVASIR_TOKENIZERS")
	if dir == "" {
		t.Log(noFurtherModels)
		return
	}
	for _, kind := range []string{"tokenizer.json", "tekken.json"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*", kind))
		for _, path := range files {
			t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
				d, err := loadFile(path) // as the reference reads it: this file alone
				if err != nil {
					t.Fatal(err)
				}
				if kind == "tekken.json" {
					d.added = nil // to the reference they are no text
				}
				tok, err := d.build()
				if err != nil {
					t.Fatal(err)
				}
				for _, stage := range tok.stages {
					if stage.regex != nil {
						t.Errorf("no scanner for %q", stage.pattern)
					}
				}
				test(t, subject{tok, newReference(t, path)})
			})
		}
	}
}

const noFurtherModels = "KVASIR_TOKENIZERS, a folder of further models' folders, is not set; make test-deps fills one"

// furtherModels is the folder of KVASIR_TOKENIZERS, or skips.
func furtherModels(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("KVASIR_TOKENIZERS")
	if dir == "" {
		t.Skip(noFurtherModels)
	}
	return dir
}

func (s subject) special() (list []string) {
	for content := range s.added {
		list = append(list, content)
	}
	slices.Sort(list)
	return list
}

// agree compares the ids of text, and the text of the ids both ways.
func (s subject) agree(t *testing.T, text string) {
	t.Helper()
	want := s.agreeOnIDs(t, text)
	for _, skip := range []bool{false, true} {
		if got, want := string(s.Decode(nil, want, skip)), s.ref.decode(want, skip); got != want {
			t.Errorf("decode of %.400q, skip special %v: got %.400q, want %.400q", text, skip, got, want)
		}
	}
}

func (s subject) agreeOnIDs(t *testing.T, text string) (ids []uint32) {
	t.Helper()
	want := s.ref.encode(text)
	got := s.Encode(nil, text, false)
	if d := difference(got, want); d != "" {
		t.Fatalf("%.400q: %s", text, d)
	}
	return want
}

// wholeEffort and more make TestAgreesWithHuggingFace take each corpus as a whole.
const wholeEffort = 100

// Real text, adversarial text and all of Unicode have the reference's ids, and
// these ids its text. KVASIR_EFFORT=100 is 20,000 adversarial strings, every code
// point, all of the Go distribution's source, all prose and conversations that are
// here, and 15 MB of multilingual text.
func TestAgreesWithHuggingFace(t *testing.T) {
	r := seeded(t)
	n := 2 * effort(t)
	parts := map[string][]string{}
	for _, name := range corpora {
		limit := max(5, n) * 1_000_000
		if name == "multi" {
			limit = min(limit, 15_000_000)
		}
		parts[name] = chunks(corpus(t, name, limit), 20_000)
	}
	subjects(t, func(t *testing.T, s subject) {
		for _, name := range corpora {
			order := r.Perm(len(parts[name]))
			for _, i := range order[:min(n, len(order))] {
				s.agree(t, parts[name][i])
			}
			if effort(t) < wholeEffort {
				continue
			}
			size := 0
			for _, part := range parts[name] {
				s.agreeOnIDs(t, part)
				size += len(part)
			}
			t.Logf("all %d bytes of %s agree", size, name)
		}
		special := s.special()
		for range 200 * effort(t) {
			s.agree(t, randomText(r, special))
		}
		blocks := 0
		everyRune(func(block int, text string) {
			if r.IntN(wholeEffort) < effort(t) {
				s.agree(t, text)
				blocks++
			}
		})
		t.Logf("%d adversarial strings and %d blocks of 256 code points agree", 200*effort(t), blocks)
	})
}

// Every scanner splits as the reference's regex engine does, by the very pattern.
func TestScannersAgreeWithHuggingFace(t *testing.T) {
	r := seeded(t)
	for name, split := range golden(t).Splits {
		if name == "smollm" {
			continue // Digits has a newer Unicode than patterns; SmolLM2 itself is among the subjects
		}
		t.Run(name, func(t *testing.T) {
			ref := newReference(t, append([]string{"--split"}, split.Patterns...)...)
			stages := splitStages(t, split.Patterns)
			check := func(text string) {
				if got, want := pieces(stages, text), ref.split(text); !slices.Equal(got, want) {
					t.Fatalf("%.400q:\ngot  %.400q\nwant %.400q", text, got, want)
				}
			}
			for range 200 * effort(t) {
				check(randomText(r, nil))
			}
			everyRune(func(block int, text string) {
				if r.IntN(100) < effort(t) {
					check(text)
				}
			})
		})
	}
}
