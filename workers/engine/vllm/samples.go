package vllm

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// sample is one line of metrics in the Prometheus text format. An engine's
// metrics are read twice a second: its histograms, which are most of the text,
// are passed over, and the rest is read where it is.
type sample struct {
	name   string
	labels []byte // as written, without the braces
	value  float64
}

// wantedSamples are those of the metrics that are read.
func wantedSamples(text []byte) (samples []sample, err error) {
	for line := range bytes.Lines(text) {
		i := bytes.IndexAny(line, " {\t")
		if i <= 0 {
			continue
		}
		name, ok := wanted[string(line[:i])]
		if !ok {
			continue
		}
		s := sample{name: name}
		rest := bytes.TrimLeft(line[i:], " \t")
		if len(rest) > 0 && rest[0] == '{' {
			end := labelsEnd(rest)
			if end < 0 {
				return nil, fmt.Errorf("vllm: metrics: labels without an end: %.200q", line)
			}
			s.labels, rest = rest[1:end], rest[end+1:]
		}
		value := bytes.Fields(rest) // and perhaps a time
		if len(value) == 0 {
			return nil, fmt.Errorf("vllm: metrics: no value: %.200q", line)
		}
		if s.value, err = strconv.ParseFloat(string(value[0]), 64); err != nil {
			return nil, fmt.Errorf("vllm: metrics: %w", err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// labelsEnd is where the brace that b begins with is closed, -1 if nowhere.
func labelsEnd(b []byte) int {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == '}' && !quoted:
			return i
		}
	}
	return -1
}

// label is a label's value, as written.
func (s sample) label(name string) (value string, ok bool) {
	for rest := s.labels; len(rest) > 0; {
		key, after, found := bytes.Cut(rest, []byte(`="`))
		if !found {
			return "", false
		}
		end := 0
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(after) {
			return "", false
		}
		if string(bytes.Trim(key, ", ")) == name {
			return string(after[:end]), true
		}
		rest = after[end+1:]
	}
	return "", false
}

// ofRank reports whether a sample is about a rank, which is its label engine.
// Where there is no such label there is one rank.
func (s sample) ofRank(rank int) bool {
	if rank == allRanks {
		return true
	}
	if engine, ok := s.label("engine"); ok {
		return engine == strconv.Itoa(rank)
	}
	return rank == 0
}

// number is a numeric label's value, 0 when it is absent or "None".
func (s sample) number(name string) int {
	text, _ := s.label(name)
	n, _ := strconv.Atoi(strings.TrimSpace(text))
	return max(n, 0)
}
