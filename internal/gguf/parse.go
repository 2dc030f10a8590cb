package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// Value types of metadata (gguf_metadata_value_type).
const (
	valUint8 = iota
	valInt8
	valUint16
	valInt16
	valUint32
	valInt32
	valFloat32
	valBool
	valString
	valArray
	valUint64
	valInt64
	valFloat64
)

const (
	maxNameLen = 1 << 16
	maxDims    = 4
)

var errTruncated = errors.New("truncated: a length points past the end of the file")

// reader walks the header. After the first error every read returns zero, so
// that callers check once.
type reader struct {
	data []byte
	off  int
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.data)-r.off) {
		r.fail(errTruncated)
		return nil
	}
	b := r.data[r.off : r.off+int(n)]
	r.off += int(n)
	return b
}

// fixed reads a value of a fixed-size type.
func fixed[T any](r *reader) (v T) {
	b := r.bytes(uint64(binary.Size(v)))
	if r.err == nil {
		_, _ = binary.Decode(b, binary.LittleEndian, &v)
	}
	return v
}

func (r *reader) str() string { return string(r.bytes(fixed[uint64](r))) }

func (r *reader) name(what string) string {
	n := fixed[uint64](r)
	if n > maxNameLen {
		r.fail(fmt.Errorf("%s of %d bytes (limit %d)", what, n, maxNameLen))
		return ""
	}
	return string(r.bytes(n))
}

func parse(data []byte) (*File, error) {
	r := &reader{data: data}
	if string(r.bytes(4)) != "GGUF" {
		return nil, errors.New("not a GGUF file (no GGUF magic)")
	}
	if v := fixed[uint32](r); v != 2 && v != 3 {
		return nil, fmt.Errorf("GGUF version %d (2 and 3, little endian, are supported)", v)
	}
	nTensors, nKeys := fixed[uint64](r), fixed[uint64](r)
	// The smallest key takes 13 bytes and the smallest tensor 24: larger counts
	// than the file has room for are refused before anything is allocated.
	if room := uint64(len(data)); r.err == nil && (nKeys > room/13 || nTensors > room/24) {
		return nil, fmt.Errorf("%d metadata keys and %d tensors do not fit a file of %d bytes", nKeys, nTensors, room)
	}
	f := &File{Metadata: make(map[string]any), byName: make(map[string]int)}
	for i := uint64(0); i < nKeys && r.err == nil; i++ {
		key := r.name("metadata key")
		value := r.value(fixed[uint32](r))
		if r.err != nil {
			return nil, fmt.Errorf("metadata key %d %q: %w", i, key, r.err)
		}
		if _, dup := f.Metadata[key]; dup {
			return nil, fmt.Errorf("metadata key %q appears twice", key)
		}
		f.Metadata[key] = value
	}
	if err := f.parseTensors(r, nTensors); err != nil {
		return nil, err
	}
	return f, r.err
}

func (f *File) parseTensors(r *reader, n uint64) error {
	var offsets []uint64
	for i := uint64(0); i < n; i++ {
		t := Tensor{Name: r.name("tensor name")}
		dims := fixed[uint32](r)
		if dims > maxDims {
			r.fail(fmt.Errorf("%d dimensions (limit %d)", dims, maxDims))
		}
		for d := uint32(0); d < dims && r.err == nil; d++ {
			t.Dims = append(t.Dims, fixed[uint64](r))
		}
		t.Type = Type(fixed[uint32](r))
		offsets = append(offsets, fixed[uint64](r))
		if r.err != nil {
			return fmt.Errorf("tensor %d %q: %w", i, t.Name, r.err)
		}
		if _, dup := f.byName[t.Name]; dup {
			return fmt.Errorf("tensor %q appears twice", t.Name)
		}
		f.byName[t.Name] = len(f.Tensors)
		f.Tensors = append(f.Tensors, t)
	}
	align := int64(32)
	if a, ok := f.Int("general.alignment"); ok {
		align = a
	}
	if align <= 0 || align > 1<<20 || align&(align-1) != 0 {
		return fmt.Errorf("general.alignment is %d (want a power of two up to 1 MiB)", align)
	}
	base := (uint64(r.off) + uint64(align) - 1) &^ uint64(align-1)
	for i := range f.Tensors {
		t := &f.Tensors[i]
		size, err := t.size()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		end := uint64(len(r.data))
		if size == 0 {
			continue
		}
		if base > end || offsets[i] > end-base || size > end-base-offsets[i] {
			return fmt.Errorf("tensor %q: %d bytes at offset %d: %w", t.Name, size, offsets[i], errTruncated)
		}
		start := base + offsets[i]
		t.Data = r.data[start : start+size : start+size]
	}
	return nil
}

// size is the bytes that a tensor's dimensions ask for.
func (t *Tensor) size() (uint64, error) {
	info, ok := types[t.Type]
	if !ok {
		return 0, fmt.Errorf("unknown element type: %s", t.Type)
	}
	if len(t.Dims) > 0 && t.Dims[0]%info.block != 0 {
		return 0, fmt.Errorf("rows of %d elements do not divide into %s blocks of %d", t.Dims[0], info.name, info.block)
	}
	n := uint64(1)
	for _, d := range t.Dims {
		hi, lo := bits.Mul64(n, d)
		if hi != 0 {
			return 0, fmt.Errorf("dimensions %v overflow", t.Dims)
		}
		n = lo
	}
	hi, lo := bits.Mul64(n/info.block, info.bytes)
	if hi != 0 {
		return 0, fmt.Errorf("dimensions %v overflow", t.Dims)
	}
	return lo, nil
}

// value reads one metadata value.
func (r *reader) value(kind uint32) any {
	switch kind {
	case valUint8:
		return fixed[uint8](r)
	case valInt8:
		return fixed[int8](r)
	case valUint16:
		return fixed[uint16](r)
	case valInt16:
		return fixed[int16](r)
	case valUint32:
		return fixed[uint32](r)
	case valInt32:
		return fixed[int32](r)
	case valFloat32:
		return fixed[float32](r)
	case valBool:
		return fixed[uint8](r) != 0
	case valString:
		return r.str()
	case valArray:
		return r.array()
	case valUint64:
		return fixed[uint64](r)
	case valInt64:
		return fixed[int64](r)
	case valFloat64:
		return fixed[float64](r)
	}
	r.fail(fmt.Errorf("unknown value type %d", kind))
	return nil
}

func (r *reader) array() any {
	kind, n := fixed[uint32](r), fixed[uint64](r)
	switch kind {
	case valUint8:
		return fixeds[uint8](r, n)
	case valInt8:
		return fixeds[int8](r, n)
	case valUint16:
		return fixeds[uint16](r, n)
	case valInt16:
		return fixeds[int16](r, n)
	case valUint32:
		return fixeds[uint32](r, n)
	case valInt32:
		return fixeds[int32](r, n)
	case valFloat32:
		return fixeds[float32](r, n)
	case valBool:
		raw := r.bytes(n)
		out := make([]bool, len(raw))
		for i, b := range raw {
			out[i] = b != 0
		}
		return out
	case valString:
		return r.strings(n)
	case valUint64:
		return fixeds[uint64](r, n)
	case valInt64:
		return fixeds[int64](r, n)
	case valFloat64:
		return fixeds[float64](r, n)
	case valArray:
		r.fail(errors.New("arrays of arrays are not supported"))
		return nil
	}
	r.fail(fmt.Errorf("unknown array element type %d", kind))
	return nil
}

// fixeds reads n values of a fixed-size type.
func fixeds[T any](r *reader, n uint64) []T {
	var zero T
	hi, size := bits.Mul64(n, uint64(binary.Size(zero)))
	if hi != 0 {
		r.fail(errTruncated)
	}
	raw := r.bytes(size)
	if r.err != nil {
		return nil
	}
	out := make([]T, n)
	_, _ = binary.Decode(raw, binary.LittleEndian, out)
	return out
}

// strings reads n strings. They share one copy of their bytes: a vocabulary has
// hundreds of thousands of them.
func (r *reader) strings(n uint64) []string {
	if n > uint64(len(r.data)-r.off)/8 {
		r.fail(errTruncated)
		return nil
	}
	start := r.off
	ends := make([]int, n)
	total := 0
	for i := range ends {
		total += len(r.bytes(fixed[uint64](r)))
		ends[i] = total
	}
	if r.err != nil {
		return nil
	}
	var all strings.Builder
	all.Grow(total)
	again := &reader{data: r.data, off: start}
	for range ends {
		all.Write(again.bytes(fixed[uint64](again)))
	}
	out, from := make([]string, n), 0
	for i, end := range ends {
		out[i] = all.String()[from:end]
		from = end
	}
	return out
}
