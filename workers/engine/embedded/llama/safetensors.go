package llama

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/gguf"
)

// maxHeader is the format's own limit.
const maxHeader = 100 << 20

// tensor is one tensor of a model file, whatever the file's format.
type tensor struct {
	kind gguf.Type
	dims []uint64 // slowest first
	data []byte
}

// parseSafetensors adds the tensors of one safetensors file to all. Types that
// we do not compute with are left out and named in foreign.
func parseSafetensors(data []byte, all map[string]tensor, foreign map[string]string) error {
	if len(data) < 8 {
		return errors.New("not a safetensors file: shorter than its length field")
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-8) {
		return fmt.Errorf("not a safetensors file: header of %d bytes in a file of %d", n, len(data))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		return fmt.Errorf("safetensors header: %w", err)
	}
	body := data[8+n:]
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var t struct {
			DType   string    `json:"dtype"`
			Shape   []uint64  `json:"shape"`
			Offsets [2]uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("safetensors header: tensor %q: %w", name, err)
		}
		kind, ok := map[string]gguf.Type{"F32": gguf.F32, "F16": gguf.F16, "BF16": gguf.BF16}[t.DType]
		if !ok {
			foreign[name] = t.DType
			continue
		}
		size := uint64(2)
		if kind == gguf.F32 {
			size = 4
		}
		for _, d := range t.Shape {
			hi, lo := bits.Mul64(size, d)
			if size = lo; hi != 0 {
				return fmt.Errorf("tensor %q: shape %v overflows", name, t.Shape)
			}
		}
		from, to := t.Offsets[0], t.Offsets[1]
		if from > to || to > uint64(len(body)) || to-from != size {
			return fmt.Errorf("tensor %q: bytes %d to %d of %d do not hold shape %v of %s", name, from, to, len(body), t.Shape, t.DType)
		}
		if _, dup := all[name]; dup {
			return fmt.Errorf("tensor %q is in two files", name)
		}
		all[name] = tensor{kind: kind, dims: t.Shape, data: body[from:to:to]}
	}
	return nil
}

// safetensorsFiles lists the weight files of a Hugging Face folder.
func safetensorsFiles(dir string) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "model.safetensors.index.json"))
	if errors.Is(err, os.ErrNotExist) {
		return []string{filepath.Join(dir, "model.safetensors")}, nil
	}
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("model.safetensors.index.json: %w", err)
	}
	var files []string
	for _, name := range index.WeightMap {
		if filepath.Base(name) != name || name == "." || name == ".." {
			return nil, fmt.Errorf("model.safetensors.index.json: %q is not a file of the folder", name)
		}
		if path := filepath.Join(dir, name); !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return files, nil
}
