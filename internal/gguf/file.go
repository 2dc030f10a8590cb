package gguf

import (
	"errors"
	"fmt"
)

// Tensor is one tensor of a file. Dims[0] is the fastest-running dimension, so
// a weight matrix of R rows and C columns has Dims {C, R}.
type Tensor struct {
	Name string
	Dims []uint64
	Type Type
	Data []byte // aliases the mapped file
}

// File is an open GGUF file.
type File struct {
	// Metadata holds uint8...float64, bool and string values as the Go types of
	// the same name, and arrays as slices of those.
	Metadata map[string]any
	Tensors  []Tensor

	byName map[string]int
	unmap  func() error
}

// Open maps and parses the file.
func Open(path string) (*File, error) {
	data, unmap, err := Map(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	f, err := parse(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gguf: %s: %w", path, err), unmap())
	}
	f.unmap = unmap
	return f, nil
}

// Close unmaps the file; tensors' data must not be used afterwards.
func (f *File) Close() error {
	f.Tensors, f.byName = nil, nil
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap = nil
	return unmap()
}

// Tensor finds a tensor by name; nil if the file has none of that name.
func (f *File) Tensor(name string) *Tensor {
	if i, ok := f.byName[name]; ok {
		return &f.Tensors[i]
	}
	return nil
}

// String is the value of a string key.
func (f *File) String(key string) (string, bool) {
	s, ok := f.Metadata[key].(string)
	return s, ok
}

// Bool is the value of a bool key.
func (f *File) Bool(key string) (value, ok bool) {
	value, ok = f.Metadata[key].(bool)
	return value, ok
}

// Int is the value of a key of any integer type; a uint64 above the range of
// int64 counts as absent.
func (f *File) Int(key string) (int64, bool) {
	switch v := f.Metadata[key].(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), int64(v) >= 0
	}
	return 0, false
}

// Float is the value of a float key; integers are converted.
func (f *File) Float(key string) (float64, bool) {
	switch v := f.Metadata[key].(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	i, ok := f.Int(key)
	return float64(i), ok
}

// Strings is the value of a string array key, nil if there is none.
func (f *File) Strings(key string) []string {
	s, _ := f.Metadata[key].([]string)
	return s
}

// Ints is the value of an integer array key of any width, nil if there is none.
func (f *File) Ints(key string) []int64 {
	switch v := f.Metadata[key].(type) {
	case []uint8:
		return widen(v)
	case []int8:
		return widen(v)
	case []uint16:
		return widen(v)
	case []int16:
		return widen(v)
	case []uint32:
		return widen(v)
	case []int32:
		return widen(v)
	case []uint64:
		return widen(v)
	case []int64:
		return v
	}
	return nil
}

func widen[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64](v []T) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// Floats is the value of a float32 or float64 array key, nil if there is none.
func (f *File) Floats(key string) []float32 {
	switch v := f.Metadata[key].(type) {
	case []float32:
		return v
	case []float64:
		out := make([]float32, len(v))
		for i, x := range v {
			out[i] = float32(x)
		}
		return out
	}
	return nil
}
