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

// Load reads a model's tokenizer: a folder with tokenizer.json and what stands
// beside it (tokenizer_config.json, generation_config.json,
// special_tokens_map.json, chat_template.jinja), such a tokenizer.json, or a
// .gguf file. A tokenizer.json of another name stands alone; it may be gzipped.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := load(path, info.IsDir())
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", path, err)
	}
	return t, nil
}

func load(path string, isDir bool) (*Tokenizer, error) {
	switch {
	case isDir:
		return loadFolder(path)
	case filepath.Base(path) == "tokenizer.json":
		return loadFolder(filepath.Dir(path))
	}
	if strings.HasSuffix(path, ".gguf") {
		d, err := loadGGUF(path)
		if err != nil {
			return nil, err
		}
		return d.build()
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return LoadJSON(b)
}

func loadFolder(dir string) (*Tokenizer, error) {
	b, err := readFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return nil, err
	}
	d, err := parseHF(b)
	if err != nil {
		return nil, err
	}
	if err := d.configure(dir); err != nil {
		return nil, err
	}
	return d.build()
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
