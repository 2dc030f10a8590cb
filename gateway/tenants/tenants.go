package tenants

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kvasir-ai/kvasir/gateway/queue"
)

// Spec is one tenant, as the operator describes it.
type Spec struct {
	Name string
	// Keys are the SHA-256 of the tenant's API keys.
	Keys [][sha256.Size]byte
	// Models are the names that it may ask for; empty: all.
	Models []string
	// Group names the tenants with whom it shares cached KV; "": nobody.
	Group string
	// Admin lets it use the admin API.
	Admin  bool
	Limits Limits
	// Priority is that of its requests, and the most that they may ask for.
	Priority queue.Priority
	// Weight is its share among the tenants of its priority; not above 0: 1.
	Weight float64
}

// Tenant is one tenant at work.
type Tenant struct {
	spec    Spec
	account *account
}

// Directory is all tenants.
type Directory struct {
	table atomic.Pointer[table]
}

type table struct {
	byKey  map[[sha256.Size]byte]*Tenant
	byName map[string]*Tenant
}

// New makes a directory.
func New(specs []Spec) (*Directory, error) {
	d := &Directory{}
	d.table.Store(&table{})
	return d, d.Replace(specs)
}

// Replace puts other tenants in place of those there were. On an error nothing
// has changed.
func (d *Directory) Replace(specs []Spec) error {
	old := d.table.Load()
	t := &table{byKey: map[[sha256.Size]byte]*Tenant{}, byName: map[string]*Tenant{}}
	for _, s := range specs {
		if s.Name == "" || t.byName[s.Name] != nil {
			return fmt.Errorf("tenant %q: want a name, and each only once", s.Name)
		}
		if len(s.Keys) == 0 {
			return fmt.Errorf("tenant %q has no key: nobody could be it", s.Name)
		}
		tenant := &Tenant{spec: s, account: newAccount()}
		if before := old.byName[s.Name]; before != nil {
			tenant.account = before.account
		}
		t.byName[s.Name] = tenant
		for _, key := range s.Keys {
			if other := t.byKey[key]; other != nil {
				return fmt.Errorf("tenants %q and %q have the same key", other.spec.Name, s.Name)
			}
			t.byKey[key] = tenant
		}
	}
	for _, tenant := range t.byName {
		tenant.account.limit(tenant.spec.Limits)
	}
	d.table.Store(t)
	return nil
}

// Authenticate is the tenant whose key this is, nil if nobody's.
func (d *Directory) Authenticate(key string) *Tenant {
	return d.table.Load().byKey[sha256.Sum256([]byte(key))]
}

// Len is the number of tenants.
func (d *Directory) Len() int { return len(d.table.Load().byName) }

// Name is the tenant's name.
func (t *Tenant) Name() string { return t.spec.Name }

// Admin reports whether the tenant may use the admin API.
func (t *Tenant) Admin() bool { return t.spec.Admin }

// Priority is that of the tenant's requests, and the most that they may ask for.
func (t *Tenant) Priority() queue.Priority { return t.spec.Priority }

// Weight is the tenant's share among those of its priority.
func (t *Tenant) Weight() float64 { return t.spec.Weight }

// May reports whether the tenant may ask for a model.
func (t *Tenant) May(model string) bool {
	return len(t.spec.Models) == 0 || slices.Contains(t.spec.Models, model)
}

// Salt is what separates the tenant's KV from all others', made from the salt
// that its client gave, if any.
func (t *Tenant) Salt(client string) string {
	owner := "tenant\x00" + t.spec.Name
	if t.spec.Group != "" {
		owner = "group\x00" + t.spec.Group
	}
	sum := sha256.Sum256([]byte("kvasir salt\x00" + owner + "\x00" + client))
	return hex.EncodeToString(sum[:16])
}

// ParseKey reads one key of a keys file: "sha256:HEX", or "env:NAME" for a key
// in the environment.
func ParseKey(s string, environment func(string) (string, bool)) (key [sha256.Size]byte, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "sha256":
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) != sha256.Size {
			return key, fmt.Errorf("want sha256: and 64 hexadecimal digits, as of: printf %%s KEY | sha256sum")
		}
		return [sha256.Size]byte(b), nil
	case "env":
		v, ok := environment(rest)
		if !ok || v == "" {
			return key, fmt.Errorf("the environment has no %s", rest)
		}
		return sha256.Sum256([]byte(v)), nil
	}
	return key, fmt.Errorf("want sha256:HEX or env:NAME; keys are not written down as they are")
}
