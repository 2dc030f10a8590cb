package chattemplate

import (
	"fmt"
	"math"
	"strings"
)

// dict keeps its items in insertion order. Only its builder changes it.
type dict struct {
	keys  []Value
	vals  []Value
	index map[any]int // by hash key, once there are more than smallDict items
}

// Below this many items a scan of the keys beats hashing.
const smallDict = 16

// hashKey returns a Go value that is equal for exactly the keys that Python takes
// for the same: 1, 1.0 and True are one key.
func hashKey(v Value) any {
	switch v := v.(type) {
	case str:
		return string(v)
	case markup:
		return string(v)
	case boolean:
		if v {
			return int64(1)
		}
		return int64(0)
	case integer:
		return int64(v)
	case bigInt:
		return bigKey(v.v.String())
	case float:
		if f := float64(v); f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			return int64(f)
		}
		return float64(v)
	case *tuple:
		return tupleHash(v, 0)
	case *list, *dict:
		raise(kindType, "unhashable type: '%s'", v.typeName())
	case *undefined:
		return undefinedKey{}
	}
	return v // none and the pointer types: identity
}

type (
	undefinedKey struct{}
	bigKey       string
	tupleKey     string
)

func tupleHash(t *tuple, depth int) tupleKey {
	checkDepth(depth)
	var b strings.Builder
	for _, item := range t.items {
		if inner, ok := item.(*tuple); ok {
			fmt.Fprintf(&b, "(%s)", tupleHash(inner, depth+1))
			continue
		}
		hash := hashKey(item)
		fmt.Fprintf(&b, "%T %d %v,", hash, len(fmt.Sprint(hash)), hash)
	}
	return tupleKey(b.String())
}

// get returns the value of key, or nil.
func (d *dict) get(key Value) Value {
	if s, ok := key.(str); ok {
		return d.getStr(string(s))
	}
	if i := d.find(hashKey(key)); i >= 0 {
		return d.vals[i]
	}
	return nil
}

func (d *dict) getStr(key string) Value {
	if i := d.findStr(key); i >= 0 {
		return d.vals[i]
	}
	return nil
}

func (d *dict) findStr(key string) int {
	if d.index != nil {
		if i, ok := d.index[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range d.keys {
		if s, ok := k.(str); ok && string(s) == key {
			return i
		}
		if s, ok := k.(markup); ok && string(s) == key {
			return i
		}
	}
	return -1
}

func (d *dict) find(hash any) int {
	if d.index != nil {
		if i, ok := d.index[hash]; ok {
			return i
		}
		return -1
	}
	for i, k := range d.keys {
		if hashKey(k) == hash {
			return i
		}
	}
	return -1
}

// set adds or replaces an item; a replaced one keeps its place and its first key.
func (d *dict) set(key, val Value) {
	i := -1
	if s, ok := key.(str); ok {
		i = d.findStr(string(s))
	} else {
		i = d.find(hashKey(key))
	}
	if i >= 0 {
		d.vals[i] = val
		return
	}
	d.keys, d.vals = append(d.keys, key), append(d.vals, val)
	if d.index != nil {
		d.index[hashKey(key)] = len(d.keys) - 1
	} else if len(d.keys) > smallDict {
		d.index = make(map[any]int, 2*len(d.keys))
		for i, k := range d.keys {
			d.index[hashKey(k)] = i
		}
	}
}

func (d *dict) setStr(key string, val Value) { d.set(str(key), val) }

// delete removes key, if it is there.
func (d *dict) delete(key string) {
	for i, k := range d.keys {
		if s, ok := text(k); !ok || s != key {
			continue
		}
		rest := *d
		*d = dict{}
		for j, k := range rest.keys {
			if j != i {
				d.set(k, rest.vals[j])
			}
		}
		return
	}
}

func (d *dict) clone() *dict {
	c := &dict{keys: make([]Value, 0, len(d.keys)), vals: make([]Value, 0, len(d.keys))}
	for i, k := range d.keys {
		c.set(k, d.vals[i])
	}
	return c
}
