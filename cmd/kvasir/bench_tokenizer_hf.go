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
	Version string `json:"version"`
	encodeRates
	SpeedUp speedUps `json:"speed_up"` // of ours over theirs, kind by kind
}

type speedUps struct {
	New     float64 `json:"new"`
	Emptied float64 `json:"emptied"`
	First   float64 `json:"first"`
	Again   float64 `json:"again"`
}

// referenceScript does what tokenizerBench does, in fewer rounds.
const referenceScript = `
import gzip, json, sys, time, tokenizers
path, file, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
content = (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8").read()
text = open(file, "rb").read().decode("utf-8", "replace")
raw, parts, start = text.encode(), [], 0
while start < len(raw):
    end = min(start + size, len(raw))
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    parts.append(raw[start:end].decode())
    start = end
unknown, known = parts[::2], parts[1::2]

def rate(texts):
    start = time.process_time()
    for t in texts:
        tok.encode(t, add_special_tokens=False)
    return sum(len(t.encode()) for t in texts) / 1e6 / (time.process_time() - start)

rates = {"mb_per_s_new": [], "mb_per_s": [], "mb_per_s_first": [], "mb_per_s_warm": []}
for _ in range(3):
    tok = tokenizers.Tokenizer.from_str(content)
    rates["mb_per_s_first"].append(rate([text]))
    rates["mb_per_s_warm"].append(rate([text]))
    tok.model._clear_cache()
    rates["mb_per_s"].append(rate([text]))
    tok.model._clear_cache()
    rate(known)
    rates["mb_per_s_new"].append(rate(unknown))
print(json.dumps({"version": tokenizers.__version__} | {k: sorted(v)[1] for k, v in rates.items()}))`

func benchReference(ctx context.Context, python, model, file string, ours encodeRates) (*referenceReport, error) {
	if info, err := os.Stat(model); err == nil && info.IsDir() {
		model = filepath.Join(model, "tokenizer.json")
	}
	if strings.HasSuffix(model, ".gguf") {
		return nil, errors.New("--hf needs a tokenizer.json; Hugging Face's library reads no GGUF file")
	}
	c := exec.CommandContext(ctx, python, "-c", referenceScript, model, file, fmt.Sprint(partBytes))
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
	r.SpeedUp = speedUps{ours.New / r.New, ours.Emptied / r.Emptied, ours.First / r.First, ours.Again / r.Again}
	return r, nil
}
