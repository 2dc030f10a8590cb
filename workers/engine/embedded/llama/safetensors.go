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
)

// maxHeader is the format's own limit.
const maxHeader = 100 << 20

// tensor is one tensor of a model file, whatever the file's format.
type tensor struct {
	kind string   // of its elements: a key of formats where we know it
	dims []uint64 // slowest first
	data []byte
}

// parseSafetensors adds the tensors of one safetensors file to all.
func parseSafetensors(data []byte, all map[string]tensor) error {
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
		size, ok := map[string]uint64{"F32": 4, "F16": 2, "BF16": 2}[t.DType]
		if !ok {
			all[name] = tensor{kind: "safetensors " + t.DType, dims: t.Shape} // refused where it is needed
			continue
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
		all[name] = tensor{kind: t.DType, dims: t.Shape, data: body[from:to:to]}
	}
	return nil
}

// safetensorsFiles lists the weight files of a Hugging Face folder.
func safetensorsFiles(dir string) ([]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	err := readJSON(filepath.Join(dir, "model.safetensors.index.json"), &index)
	if errors.Is(err, os.ErrNotExist) {
		return []string{filepath.Join(dir, "model.safetensors")}, nil
	}
	if err != nil {
		return nil, err
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

// readJSON reads one file of a Hugging Face folder.
func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}
