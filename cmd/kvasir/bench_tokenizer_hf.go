package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// referenceReport is Hugging Face's library on the same file, on one core.
type referenceReport struct {
	Version string  `json:"version"`
	MBPerS  float64 `json:"mb_per_s"`
	SpeedUp float64 `json:"speed_up"` // mb_per_s of ours over theirs
}

const referenceScript = `
import gzip, json, sys, time, tokenizers
path, file = sys.argv[1:]
tok = tokenizers.Tokenizer.from_str((gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8").read())
text = open(file, "rb").read().decode("utf-8", "replace")
size, best = len(text.encode()), 0
tok.encode(text[:10000])
for _ in range(2):
    start = time.process_time()
    tok.encode(text, add_special_tokens=False)
    best = max(best, size / 1e6 / (time.process_time() - start))
print(json.dumps({"version": tokenizers.__version__, "mb_per_s": best}))`

// benchReference measures the better of two calls.
func benchReference(ctx context.Context, python, model, file string, ours float64) (*referenceReport, error) {
	if info, err := os.Stat(model); err == nil && info.IsDir() {
		model = filepath.Join(model, "tokenizer.json")
	}
	if strings.HasSuffix(model, ".gguf") {
		return nil, errors.New("--hf needs a tokenizer.json; Hugging Face's library reads no GGUF file")
	}
	c := exec.CommandContext(ctx, python, "-c", referenceScript, model, file)
	c.Env = append(os.Environ(), "TOKENIZERS_PARALLELISM=false", "RAYON_NUM_THREADS=1")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s with the package tokenizers: %w", python, err)
	}
	r := &referenceReport{}
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("%s: %w", python, err)
	}
	r.SpeedUp = ours / r.MBPerS
	return r, nil
}
