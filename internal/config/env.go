package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Alias is a setting that users of other systems know, and what it means here.
type Alias struct {
	Name    string // environment variable
	Setting string // ours
	set     func(c *Config, v string) error
}

// Aliases are understood when our own variable and the file leave the setting
// alone; `kvasir doctor` shows those that are set.
var Aliases = []Alias{
	{"DYN_KVBM_CPU_CACHE_GB", "tiers.cpu", func(c *Config, v string) error { return gigabytes(&c.Tiers.CPU, v) }},
	{"DYN_KVBM_DISK_CACHE_GB", "tiers.disk.size", func(c *Config, v string) error { return gigabytes(&c.disk().Size, v) }},
	{"DYN_KVBM_DISK_CACHE_DIR", "tiers.disk.path", func(c *Config, v string) error { return text(&c.disk().Path, v) }},
	{"DYN_SYSTEM_PORT", "agent.metrics", func(c *Config, v string) error { return text(&c.Agent.Metrics, ":"+v) }},
	{"LMCACHE_MAX_LOCAL_CPU_SIZE", "tiers.cpu", func(c *Config, v string) error { return gigabytes(&c.Tiers.CPU, v) }},
	{"LMCACHE_MAX_LOCAL_DISK_SIZE", "tiers.disk.size", func(c *Config, v string) error { return gigabytes(&c.disk().Size, v) }},
	{"LMCACHE_LOCAL_DISK", "tiers.disk.path", func(c *Config, v string) error {
		return text(&c.disk().Path, strings.TrimPrefix(v, "file://"))
	}},
	{"LMCACHE_REMOTE_URL", "tiers.redis.url", func(c *Config, v string) error {
		if c.Tiers.Redis == nil {
			c.Tiers.Redis = &Redis{}
		}
		return text(&c.Tiers.Redis.URL, v)
	}},
}

func (c *Config) disk() *Disk {
	if c.Tiers.Disk == nil {
		c.Tiers.Disk = &Disk{}
	}
	return c.Tiers.Disk
}

// text and gigabytes leave a setting alone that already has a value.
func text(dst *string, v string) error {
	if *dst == "" {
		*dst = v
	}
	return nil
}

func gigabytes(dst *Size, v string) error {
	gb, err := strconv.ParseFloat(v, 64)
	if err != nil || gb < 0 || gb > 1<<20 {
		return fmt.Errorf("%q is not a number of gigabytes", v)
	}
	if *dst == 0 {
		*dst = Size(gb * 1e9)
	}
	return nil
}

// applyEnv sets what the environment says. Every single-valued setting outside
// lists has a variable: KVASIR_ and its path in capitals, with _ for dots, as in
// KVASIR_TIERS_DISK_PATH.
func applyEnv(c *Config, env []string) (problems []Problem) {
	vars := map[string]string{}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}
	fail := func(name string, err error) {
		problems = append(problems, Problem{"environment", 0, fmt.Sprintf("%s: %v", name, err)})
	}
	envFields(reflect.ValueOf(c).Elem(), "KVASIR", vars, fail)
	for _, a := range Aliases {
		if v, ok := vars[a.Name]; ok {
			if err := a.set(c, v); err != nil {
				fail(a.Name, err)
			}
		}
	}
	return problems
}

func envFields(v reflect.Value, prefix string, vars map[string]string, fail func(string, error)) {
	for i := range v.NumField() {
		name := prefix + "_" + strings.ToUpper(v.Type().Field(i).Tag.Get("yaml"))
		field := v.Field(i)
		if turn(field, vars[name]) {
			continue
		}
		if field.Kind() == reflect.Pointer {
			if field.IsNil() {
				if !anyWithPrefix(vars, name+"_") {
					continue
				}
				field.Set(reflect.New(field.Type().Elem()))
			}
			field = field.Elem()
		}
		value, set := vars[name]
		t, isText := field.Addr().Interface().(encoding.TextUnmarshaler)
		var err error
		switch {
		case isText && set:
			err = t.UnmarshalText([]byte(value))
		case isText, field.Kind() == reflect.Slice:
		case field.Kind() == reflect.Struct:
			envFields(field, name, vars, fail)
		case set:
			err = setScalar(field, value)
		}
		if err != nil {
			fail(name, err)
		}
	}
}

func anyWithPrefix(vars map[string]string, prefix string) bool {
	for k := range vars {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}
