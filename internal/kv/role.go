package kv

import "fmt"

// Role is the part of a request's life that a worker serves.
type Role uint8

// The roles.
const (
	Aggregated Role = iota // prefill and decode
	Prefill
	Decode
)

var roleNames = [...]string{"aggregated", "prefill", "decode"}

// String is the role's name in configuration and JSON.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// MarshalText uses the role's name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a role's name; empty means aggregated.
func (r *Role) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = Aggregated
		return nil
	}
	for i, name := range roleNames {
		if string(b) == name {
			*r = Role(i)
			return nil
		}
	}
	return fmt.Errorf("kv: unknown role %q (aggregated, prefill or decode)", b)
}
