package tokenizer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// shared finds a file of the shared test data, or skips.
func shared(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "tokenizers", name+".tokenizer.json.gz")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("shared test data is not here: %v", err)
	}
	return path
}

func mustLoad(t testing.TB, path string) *Tokenizer {
	t.Helper()
	tok, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// reference is Hugging Face's library in a Python process: testdata/reference.py.
type reference struct {
	t   testing.TB
	in  io.WriteCloser
	enc *json.Encoder
	out *bufio.Reader
}

// python is a Python that has the tokenizers package, or skips.
func python(t testing.TB) string {
	t.Helper()
	path := os.Getenv("KVASIR_PYTHON")
	if path == "" || exec.Command(path, "-c", "import tokenizers").Run() != nil {
		t.Skip("make test-deps installs a Python with Hugging Face's tokenizers and says where in KVASIR_PYTHON")
	}
	return path
}

func newReference(t testing.TB, args ...string) *reference {
	t.Helper()
	python := python(t)
	cmd := exec.Command(python, append([]string{filepath.Join("testdata", "reference.py")}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", python, err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("reference: %v", err)
		}
	})
	enc := json.NewEncoder(in)
	enc.SetEscapeHTML(false)
	return &reference{t: t, in: in, enc: enc, out: bufio.NewReaderSize(out, 1<<20)}
}

func (r *reference) ask(question map[string]any, answer any) {
	r.t.Helper()
	if err := r.enc.Encode(question); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		r.t.Fatalf("reference: %v", err)
	}
}

func (r *reference) encode(text string) (ids []uint32) {
	r.ask(map[string]any{"e": text}, &ids)
	return ids
}

func (r *reference) decode(ids []uint32, skip bool) (text string) {
	r.ask(map[string]any{"d": ids, "skip": skip}, &text)
	return text
}

// split is text as the patterns that the reference was started with split it.
func (r *reference) split(text string) (pieces []string) {
	r.ask(map[string]any{"p": text}, &pieces)
	return pieces
}

// difference describes where two id lists part, empty if they do not.
func difference(got, want []uint32) string {
	for i := 0; i < max(len(got), len(want)); i++ {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			lo := max(i-2, 0)
			return fmt.Sprintf("position %d: got %v, want %v", i, got[lo:min(i+6, len(got))], want[lo:min(i+6, len(want))])
		}
	}
	return ""
}
