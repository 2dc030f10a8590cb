package config

import (
	"fmt"
	"os"
)

// Tenants is the file that auth.keys_file names.
type Tenants struct {
	// All who may use the gateway.
	Tenants []Tenant `yaml:"tenants"`
}

// Tenant is one user of the gateway, or one team, with its own limits and its
// own cached KV.
type Tenant struct {
	// Unique name, as metrics and records show it.
	Name string `yaml:"name"`
	// Its API keys: sha256:HEX (printf %s KEY | sha256sum), or env:NAME for a key in
	// the environment.
	Keys []string `yaml:"keys"`
	// Models that it may ask for. Absent: all.
	Models []string `yaml:"models"`
	// Tenants of one group share cached KV, and so can tell from an answer's speed
	// what others of the group have asked. Absent: shared with nobody.
	Group string `yaml:"group"`
	// Requests a minute. 0: no limit.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	// Tokens a minute, of prompts and answers together. 0: no limit.
	TokensPerMinute int `yaml:"tokens_per_minute"`
	// Requests in flight. 0: no limit.
	Concurrent int `yaml:"concurrent"`
	// high, normal or low: of its requests while a model's workers are saturated, and
	// the most that a request may ask for. Absent: normal.
	Priority string `yaml:"priority"`
	// Its share of saturated workers beside the other tenants of its priority.
	// Absent: 1.
	Weight int `yaml:"weight"`
	// Whether its keys open the admin API.
	Admin bool `yaml:"admin"`
}

// LoadTenants reads a keys file.
func LoadTenants(file string) (*Tenants, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("auth.keys_file: %w", err)
	}
	return ParseTenants(file, b)
}

// ParseTenants is LoadTenants for bytes; file only names them in problems.
func ParseTenants(file string, b []byte) (*Tenants, error) {
	t := &Tenants{}
	d := &decoder{file: file, lines: map[string]int{}}
	d.parse(b, t)
	if len(d.problems) == 0 {
		d.problems = t.validate(file, d.lines)
	}
	if len(d.problems) > 0 {
		return nil, Error(d.problems)
	}
	return t, nil
}

func (t *Tenants) validate(file string, lines map[string]int) []Problem {
	v := &validator{file: file, lines: lines}
	if len(t.Tenants) == 0 {
		v.fail("tenants", "nobody could use the gateway; name at least one, or leave auth out of the settings")
	}
	names := map[string]bool{}
	for i, tenant := range t.Tenants {
		at := fmt.Sprintf("tenants[%d]", i)
		if tenant.Name == "" || names[tenant.Name] {
			v.fail(at+".name", "%q: want a name, and each only once", tenant.Name)
		}
		names[tenant.Name] = true
		if len(tenant.Keys) == 0 {
			v.fail(at+".keys", "%s has no key", tenant.Name)
		}
		for name, n := range map[string]int{
			"requests_per_minute": tenant.RequestsPerMinute, "tokens_per_minute": tenant.TokensPerMinute, "concurrent": tenant.Concurrent,
		} {
			if n < 0 {
				v.fail(at+"."+name, "%d: want 0 (no limit) or more", n)
			}
		}
		if tenant.Priority != "" {
			v.oneOf(at+".priority", tenant.Priority, "high", "normal", "low")
		}
		if tenant.Weight < 0 {
			v.fail(at+".weight", "%d: want 1 or more", tenant.Weight)
		}
	}
	return v.problems
}
