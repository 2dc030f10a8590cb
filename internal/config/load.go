package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing wrong with a file.
type Problem struct {
	File string
	Line int // 0: no line to point at, such as a setting that is missing
	Text string
}

// String is file:line: text.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Error is every problem of a file.
type Error []Problem

// Error lists the problems, one a line.
func (e Error) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads, completes from the environment and validates a file. The error
// is an Error if the file could be read at all.
func Load(file string, env []string) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(file, b, env)
}

// Parse is Load for bytes; file only names them in problems.
func Parse(file string, b []byte, env []string) (*Config, error) {
	c := Default()
	d := &decoder{file: file, lines: map[string]int{}}
	d.parse(b, c)
	d.problems = append(d.problems, applyEnv(c, env)...)
	if len(d.problems) == 0 {
		d.problems = c.validate(file, d.lines)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, Error(d.problems)
	}
	return c, nil
}

// FromEnv is the configuration without a file.
func FromEnv(env []string) (*Config, error) {
	c := Default()
	if p := applyEnv(c, env); len(p) > 0 {
		return nil, Error(p)
	}
	return c, nil
}

func (d *decoder) parse(b []byte, into any) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // an empty file is all defaults
	}
	if err != nil {
		d.fail(syntaxLine(err), "not YAML: %v", err)
		return
	}
	d.decode(doc.Content[0], reflect.ValueOf(into).Elem(), "")
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.fail(0, "more than one YAML document; write one")
	}
}

var yamlLine = regexp.MustCompile(`line (\d+):`)

func syntaxLine(err error) int {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
