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

// subjects runs test on the shared vocabularies and on SmolLM2's from GGUF.
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
		python := os.Getenv("KVASIR_HF_PYTHON")
		if python == "" {
			t.Skip("set KVASIR_HF_PYTHON to a Python with the packages tokenizers and gguf")
		}
		b, err := exec.Command(python, filepath.Join("testdata", "gguf_to_json.py"), path).Output()
		if err != nil {
			t.Skipf("the reference's tokenizer.json needs the Python package gguf: %v", err)
		}
		twin := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(twin, b, 0o600); err != nil {
			t.Fatal(err)
		}
		test(t, subject{mustLoad(t, path), newReference(t, twin)})
	})
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
	want := s.ref.encode(text)
	got := s.Encode(nil, text, false)
	if d := difference(got, want); d != "" {
		t.Errorf("%.400q: %s", text, d)
		return
	}
	for _, skip := range []bool{false, true} {
		if got, want := string(s.Decode(nil, want, skip)), s.ref.decode(want, skip); got != want {
			t.Errorf("decode of %.400q, skip special %v: got %.400q, want %.400q", text, skip, got, want)
		}
	}
}

func TestCorporaAgreeWithHuggingFace(t *testing.T) {
	r := seeded(t)
	subjects(t, func(t *testing.T, s subject) {
		for _, name := range corpora {
			parts := chunks(corpus(name, 5_000_000), 20_000)
			for _, i := range r.Perm(len(parts))[:min(4*effort(t), len(parts))] {
				s.agree(t, parts[i])
			}
		}
	})
}

func TestRandomTextAgreesWithHuggingFace(t *testing.T) {
	r := seeded(t)
	subjects(t, func(t *testing.T, s subject) {
		special := s.special()
		for range 500 * effort(t) {
			s.agree(t, randomText(r, special))
			if t.Failed() {
				return
			}
		}
	})
}

func TestEveryCodePointAgreesWithHuggingFace(t *testing.T) {
	r := seeded(t)
	subjects(t, func(t *testing.T, s subject) {
		everyRune(func(block int, text string) {
			if r.IntN(100) < 2*effort(t) {
				s.agree(t, text)
			}
		})
	})
}
