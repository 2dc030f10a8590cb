package vllm

import (
	"os"
	"path/filepath"
	"strings"
)

// Folder is where the files of an engine's model are on this machine, by the
// root that the engine names: a path, or a name at Hugging Face, whose download
// is looked for in the cache that engine and hub share. "": not here.
func Folder(root string) string {
	if readable(root) {
		return root
	}
	owner, name, ok := strings.Cut(root, "/")
	if !ok || owner == "" || strings.Contains(name, "/") {
		return ""
	}
	repo := filepath.Join(hubCache(), "models--"+owner+"--"+name)
	commit, err := os.ReadFile(filepath.Join(repo, "refs", "main"))
	if err != nil {
		return ""
	}
	if dir := filepath.Join(repo, "snapshots", strings.TrimSpace(string(commit))); readable(dir) {
		return dir
	}
	return ""
}

// readable reports whether a tokenizer can be had from path: a folder with one,
// or a GGUF file.
func readable(path string) bool {
	if filepath.Ext(path) == ".gguf" {
		return regular(path)
	}
	for _, name := range [...]string{"tokenizer.json", "tekken.json", "tiktoken.model"} {
		if regular(filepath.Join(path, name)) {
			return true
		}
	}
	return false
}

func regular(path string) bool {
	f, err := os.Stat(path)
	return err == nil && f.Mode().IsRegular()
}

// hubCache is Hugging Face's folder of downloads, by its own variables.
func hubCache() string {
	if d := os.Getenv("HF_HUB_CACHE"); d != "" {
		return d
	}
	if d := os.Getenv("HF_HOME"); d != "" {
		return filepath.Join(d, "hub")
	}
	d, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(d, ".cache", "huggingface", "hub")
}
