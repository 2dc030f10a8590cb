package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills a struct from a YAML tree. yaml.v3's own strict mode stops at
// the first problem of some kinds and drops the line of others; this one keeps
// every problem with its line, and remembers where each setting stood so that
// validation can point at it.
type decoder struct {
	file     string
	problems []Problem
	lines    map[string]int // by path, such as workers[1].url
}

func (d *decoder) fail(line int, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, fmt.Sprintf(format, args...)})
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.lines[path] = n.Line
	if n.Tag == "!!null" {
		return // "key:" with nothing after it leaves the default
	}
	if n.Tag == "!!bool" && turn(v, n.Value) {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, t, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// switchable are optional settings that true may stand for, because their
// defaults work, and false for their absence.
type switchable interface{ DefaultsWork() }

// turn sets what the text "true" or "false" stands for; false where they don't.
func turn(v reflect.Value, text string) bool {
	if v.Kind() != reflect.Pointer || !v.Type().Implements(reflect.TypeFor[switchable]()) {
		return false
	}
	on, err := strconv.ParseBool(text)
	switch {
	case err != nil:
		return false
	case on:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		v.SetZero()
	}
	return true
}

func (d *decoder) text(n *yaml.Node, t encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n.Line, "%s: expected one value, found %s", path, kindName(n))
		return
	}
	if err := t.UnmarshalText([]byte(n.Value)); err != nil {
		d.fail(n.Line, "%s: %v", path, err)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, "%s: expected settings (key: value), found %s", path, kindName(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if first, dup := seen[key.Value]; dup {
			d.fail(key.Line, "%s: already set on line %d", join(path, key.Value), first)
			continue
		}
		seen[key.Value] = key.Line
		field, ok := fieldByKey(v, key.Value)
		if !ok {
			d.fail(key.Line, "unknown setting %q%s; expected one of %s", key.Value, under(path), strings.Join(keys(v.Type()), ", "))
			continue
		}
		d.decode(value, field, join(path, key.Value))
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, "%s: expected a list, found %s", path, kindName(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.decode(item, s.Index(i), path+"["+strconv.Itoa(i)+"]")
	}
	v.Set(s)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n.Line, "%s: expected one value, found %s", path, kindName(n))
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.fail(n.Line, "%s: %v", path, err)
	}
}

func setScalar(v reflect.Value, s string) error {
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		v.SetBool(b)
	case reflect.String:
		v.SetString(s)
	case reflect.Int:
		i, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		v.SetInt(int64(i))
	case reflect.Uint64:
		u, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0 up", s)
		}
		v.SetUint(u)
	default:
		return fmt.Errorf("setting of kind %s cannot be read from text", v.Kind())
	}
	return nil
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keys(t reflect.Type) []string {
	var ks []string
	for i := range t.NumField() {
		ks = append(ks, t.Field(i).Tag.Get("yaml"))
	}
	slices.Sort(ks)
	return ks
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "settings (key: value)"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(n.Value)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func under(path string) string {
	if path == "" {
		return ""
	}
	return " under " + path
}
