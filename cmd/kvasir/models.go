package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
)

// demoModel is the file that `make up` fetches.
const demoModel = "SmolLM2-135M-Instruct.Q4_1.gguf"

// cacheDir is where models are kept between runs.
func cacheDir() (string, error) {
	if d := os.Getenv("KVASIR_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the cache: %w; set KVASIR_CACHE", err)
	}
	return filepath.Join(d, "kvasir"), nil
}

// cachedDemoModel is the demo model's file if it was fetched, else "".
func cachedDemoModel() string {
	dir, err := cacheDir()
	if err != nil {
		return ""
	}
	file := filepath.Join(dir, demoModel)
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// tinySeed fixes the weights of the tiny model, so that every worker and every
// run has the same one.
const tinySeed = 1

// tinyModel is the folder of the built-in tiny random model, generated when it
// is not there yet.
func tinyModel() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, fmt.Sprintf("tiny-%d", tinySeed))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// Written aside and renamed, so that no reader sees half a model.
	tmp, err := os.MkdirTemp(cache, "tiny.")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := llama.WriteTiny(tmp, tinySeed); err != nil {
		return "", fmt.Errorf("the tiny random model: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil && !os.IsExist(err) {
		if _, statErr := os.Stat(dir); statErr != nil { // nobody else was quicker
			return "", err
		}
	}
	return dir, nil
}

// servedName is what clients call a model file: its name without quantisation
// and ending.
func servedName(path string) string {
	name := filepath.Base(path)
	if base, ok := strings.CutSuffix(name, ".gguf"); ok {
		name, _, _ = strings.Cut(base, ".")
	}
	return name
}
