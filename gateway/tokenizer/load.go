package tokenizer

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFileBytes bounds what is read of one file; the largest tokenizer.json in
// use is a tenth of it.
const maxFileBytes = 512 << 20

// Load reads a model's tokenizer: its folder (tokenizer.json, else tekken.json,
// tiktoken.model of Kimi K2 or a .gguf file; and beside it tokenizer_config.json,
// generation_config.json, config.json, special_tokens_map.json and
// chat_template.jinja), a tokenizer.json in such a folder, a .gguf file, or
// cl100k_base.tiktoken and o200k_base.tiktoken. A file of any other name is read
// as a tokenizer.json that stands alone; it may be gzipped.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	var d *definition
	switch {
	case info.IsDir():
		d, err = loadFolder(path)
	case filepath.Base(path) == "tokenizer.json":
		d, err = loadFolder(filepath.Dir(path))
	default:
		d, err = loadFile(path)
	}
	var t *Tokenizer
	if err == nil {
		t, err = d.build()
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", path, err)
	}
	return t, nil
}

func loadFolder(dir string) (*definition, error) {
	d, err := loadDefinition(dir)
	if err != nil {
		return nil, err
	}
	return d, d.configure(dir)
}

// readFile reads a file, unzipping one that is named .gz.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(b) > maxFileBytes {
		err = fmt.Errorf("larger than %d bytes; is this a tokenizer?", maxFileBytes)
	}
	return b, err
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
