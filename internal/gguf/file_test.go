package gguf

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// builder writes GGUF files: the opposite of the parser, for tests only.
type builder struct{ bytes.Buffer }

func (b *builder) put(vs ...any) *builder {
	for _, v := range vs {
		if s, ok := v.(string); ok {
			b.put(uint64(len(s)))
			b.WriteString(s)
			continue
		}
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b
}

func header(version uint32, tensors, keys uint64) *builder {
	b := &builder{}
	b.WriteString("GGUF")
	return b.put(version, tensors, keys)
}

// small is a file with every kind of value and two tensors.
func small() []byte {
	b := header(3, 2, 8)
	b.put("name", uint32(valString), "tiny")
	b.put("layers", uint32(valUint32), uint32(2))
	b.put("eps", uint32(valFloat32), float32(0.5))
	b.put("tied", uint32(valBool), uint8(1))
	b.put("tokens", uint32(valArray), uint32(valString), uint64(3), "a", "", "cde")
	b.put("types", uint32(valArray), uint32(valInt32), uint64(2), []int32{-1, 7})
	b.put("scores", uint32(valArray), uint32(valFloat32), uint64(2), []float32{1, -2})
	b.put("huge", uint32(valUint64), uint64(1<<63))
	b.put("w", uint32(2), uint64(2), uint64(1), uint32(F32), uint64(0))
	b.put("q", uint32(1), uint64(32), uint32(Q8_0), uint64(32))
	b.Write(make([]byte, (32-b.Len()%32)%32))
	b.put([]float32{3, 4})
	b.Write(make([]byte, 24+34))
	return b.Bytes()
}

func TestReadsEveryKindOfValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	if err := os.WriteFile(path, small(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := f.String("name"); s != "tiny" || !ok {
		t.Errorf("name: %q %v", s, ok)
	}
	if n, ok := f.Int("layers"); n != 2 || !ok {
		t.Errorf("layers: %d %v", n, ok)
	}
	if x, ok := f.Float("eps"); x != 0.5 || !ok {
		t.Errorf("eps: %v %v", x, ok)
	}
	if x, ok := f.Float("layers"); x != 2 || !ok {
		t.Errorf("layers as float: %v %v", x, ok)
	}
	if v, ok := f.Bool("tied"); !v || !ok {
		t.Errorf("tied: %v %v", v, ok)
	}
	if s := f.Strings("tokens"); !reflect.DeepEqual(s, []string{"a", "", "cde"}) {
		t.Errorf("tokens: %q", s)
	}
	if v := f.Ints("types"); !reflect.DeepEqual(v, []int64{-1, 7}) {
		t.Errorf("types: %v", v)
	}
	if v := f.Floats("scores"); !reflect.DeepEqual(v, []float32{1, -2}) {
		t.Errorf("scores: %v", v)
	}
	if _, ok := f.Int("huge"); ok {
		t.Error("a uint64 beyond int64 must not read as an int")
	}
	if _, ok := f.Int("absent"); ok {
		t.Error("an absent key has a value")
	}
	w, q := f.Tensor("w"), f.Tensor("q")
	if w == nil || !bytes.Equal(w.Data, []byte{0, 0, 64, 64, 0, 0, 128, 64}) {
		t.Errorf("w: %+v", w)
	}
	if q == nil || len(q.Data) != 34 || q.Type != Q8_0 {
		t.Errorf("q: %+v", q)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f.Tensor("w") != nil {
		t.Error("a closed file still hands out its mapping")
	}
}

func TestRefusesHostileFiles(t *testing.T) {
	refuse := func(what string, data []byte, want string) {
		t.Helper()
		_, err := parse(data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", what, err, want)
		}
	}
	refuse("empty", nil, "magic")
	refuse("version 1", header(1, 0, 0).Bytes(), "version 1")
	refuse("big endian", header(0x03000000, 0, 0).Bytes(), "version")
	refuse("2^60 keys", header(3, 0, 1<<60).Bytes(), "do not fit")
	refuse("2^60 tensors", header(3, 1<<60, 0).Bytes(), "do not fit")
	refuse("long key", header(3, 0, 1).put(uint64(1<<40), make([]byte, 64)).Bytes(), "limit")
	refuse("array of 2^61", header(3, 0, 1).put("k", uint32(valArray), uint32(valUint64), uint64(1<<61)).Bytes(), "truncated")
	refuse("strings of 2^61", header(3, 0, 1).put("k", uint32(valArray), uint32(valString), uint64(1<<61)).Bytes(), "truncated")
	refuse("nested", header(3, 0, 1).put("k", uint32(valArray), uint32(valArray), uint64(1)).Bytes(), "arrays of arrays")
	refuse("value type", header(3, 0, 1).put("k", uint32(99)).Bytes(), "unknown value type 99")
	refuse("twice", header(3, 0, 2).put("k", uint32(valBool), uint8(1), "k", uint32(valBool), uint8(1)).Bytes(), "twice")
	refuse("alignment", header(3, 0, 1).put("general.alignment", uint32(valUint32), uint32(3)).Bytes(), "alignment")
	tensor := func(vs ...any) []byte { return header(3, 1, 0).put("w").put(vs...).Bytes() }
	refuse("9 dims", tensor(uint32(9), make([]byte, 80)), "dimensions")
	refuse("overflow", tensor(uint32(2), uint64(1<<40), uint64(1<<40), uint32(F32), uint64(0)), "overflow")
	refuse("past the end", tensor(uint32(1), uint64(1<<30), uint32(F32), uint64(0)), "truncated")
	refuse("offset wraps", tensor(uint32(1), uint64(1), uint32(F32), ^uint64(0)), "truncated")
	refuse("ragged", tensor(uint32(1), uint64(33), uint32(Q4_0), uint64(0)), "blocks of 32")
	refuse("type", tensor(uint32(1), uint64(1), uint32(77), uint64(0)), "ggml type 77")
	whole := small()
	for n := range len(whole) - 1 {
		if _, err := parse(whole[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes parse", n, len(whole))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(small())
	f.Add(header(2, 0, 0).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err != nil {
			return
		}
		for i := range file.Tensors {
			tensor := &file.Tensors[i]
			if size, err := tensor.size(); err != nil || size != uint64(len(tensor.Data)) {
				t.Fatalf("tensor %q: %d bytes, want %d (%v)", tensor.Name, len(tensor.Data), size, err)
			}
			if file.Tensor(tensor.Name) != tensor {
				t.Fatalf("tensor %q is not found by its name", tensor.Name)
			}
		}
		for key := range file.Metadata {
			file.Int(key)
			file.Ints(key)
			file.Floats(key)
		}
	})
}
