package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as 4096, 32Ki, 4GiB or 4GB.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	// Longest first: "KiB" must not be read as "B".
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
	{"B", 1},
}

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	num, unit := strings.TrimSpace(s), 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(num, u.suffix); ok {
			num, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(num, 64)
	if err != nil || n < 0 || math.IsNaN(n) || n*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size; write for example 512MiB, 4GB or 32Ki", s)
	}
	return Size(n * unit), nil
}

// String writes the size with the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if s != 0 && s%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d%s", s>>u.shift, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSize(string(b))
	return err
}

// MarshalText writes the size as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Set and Type make a Size a command line flag.
func (s *Size) Set(v string) error { return s.UnmarshalText([]byte(v)) }

// Type names the flag's type in usage texts.
func (s *Size) Type() string { return "size" }

// Duration is a time span, written as 250ms, 5s or 2h30m.
type Duration time.Duration

// String is the span in Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a time span; write for example 250ms, 5s or 2h", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the span in Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
