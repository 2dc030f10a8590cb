package dialect

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// reference is vLLM's own code in a Python process: testdata/reference.py.
type reference struct {
	t   testing.TB
	in  *json.Encoder
	out *bufio.Scanner
}

// answer is what the engine makes of a chat.
type answer struct {
	IDs   []uint32 `json:"ids"`
	Text  string   `json:"text"`
	Error string   `json:"error"`
}

// engine is the command that runs the reference, or the test is skipped.
func engine(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	script := filepath.Join("testdata", "reference.py")
	if venv := os.Getenv("KVASIR_VLLM"); venv != "" {
		return exec.Command(filepath.Join(venv, "bin", "python"), append([]string{script}, args...)...)
	}
	python, source := os.Getenv("KVASIR_PYTHON"), os.Getenv("KVASIR_VLLM_SOURCE")
	if python == "" || source == "" {
		t.Skip("make test-deps installs vLLM's renderers and says where in KVASIR_PYTHON and KVASIR_VLLM_SOURCE")
	}
	cmd := exec.Command(python, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+source, "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

func newReference(t testing.TB) *reference {
	t.Helper()
	cmd := engine(t)
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
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	r := &reference{t: t, in: json.NewEncoder(in), out: bufio.NewScanner(out)}
	r.out.Buffer(nil, 64<<20)
	return r
}

func (r *reference) render(job object) (a answer) {
	r.t.Helper()
	if err := r.in.Encode(job); err != nil {
		r.t.Fatal(err)
	}
	if !r.out.Scan() {
		r.t.Fatalf("the reference ended: %v", r.out.Err())
	}
	if err := json.Unmarshal(r.out.Bytes(), &a); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// mistralModels writes the folders of Mistral models, once, and returns the
// tokenizers' files.
func mistralModels(t testing.TB) []string {
	t.Helper()
	out, err := engine(t, "--models", t.TempDir()).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	return strings.Fields(string(out))
}

// sharedTokenizer unzips a file of the shared test data into a new folder, with a
// config.json, or skips.
func sharedTokenizer(t testing.TB, name, config string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "tokenizers", name+".tokenizer.json.gz")
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("shared test data is not here: %v", err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tokenizer.json"), b)
	write(t, filepath.Join(dir, "config.json"), []byte(config))
	return dir
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// effort multiplies the sizes of random tests: KVASIR_EFFORT, 1 if unset.
func effort(t testing.TB) int {
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
