package tenants

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"
)

func spec(name string, change func(*Spec)) Spec {
	s := Spec{Name: name, Keys: [][32]byte{sha256.Sum256([]byte("key of " + name))}}
	if change != nil {
		change(&s)
	}
	return s
}

func directory(t *testing.T, specs ...Spec) *Directory {
	t.Helper()
	d, err := New(specs)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOnlyAKeyOpens(t *testing.T) {
	d := directory(t, spec("a", nil), spec("b", func(s *Spec) { s.Models = []string{"m"}; s.Admin = true }))
	if a := d.Authenticate("key of a"); a == nil || a.Name() != "a" || a.Admin() || !a.May("anything") {
		t.Errorf("a is %+v", a)
	}
	if b := d.Authenticate("key of b"); b == nil || !b.Admin() || !b.May("m") || b.May("other") {
		t.Errorf("b is %+v", b)
	}
	for _, wrong := range []string{"", "key of c", "key of a ", "KEY OF A"} {
		if d.Authenticate(wrong) != nil {
			t.Errorf("%q opened", wrong)
		}
	}
}

// Law 7: salts are apart by tenant and by what the client gave, equal within a
// group, and none can be reached by sending another's.
func TestSaltsAreApart(t *testing.T) {
	d := directory(t, spec("a", nil), spec("b", nil), spec("a\x00x", nil), spec("g1", func(s *Spec) { s.Group = "a" }), spec("g2", func(s *Spec) { s.Group = "a" }))
	of := func(name, client string) string { return d.Authenticate("key of " + name).Salt(client) }
	if of("g1", "") != of("g2", "") || of("g1", "s") != of("g2", "s") {
		t.Error("a group does not share its salt")
	}
	seen := map[string]string{}
	for _, name := range []string{"a", "b", "a\x00x", "g1"} {
		for _, client := range []string{"", "s", "x", of("a", ""), of("a", "s")} {
			salt := of(name, client)
			if other := seen[salt]; other != "" {
				t.Errorf("%q with %q has the salt of %s", name, client, other)
			}
			seen[salt] = name + " with " + client
		}
	}
}

func TestBadDirectoriesChangeNothing(t *testing.T) {
	d := directory(t, spec("a", nil))
	for why, specs := range map[string][]Spec{
		"want a name": {spec("", nil)},
		"only once":   {spec("b", nil), spec("b", nil)},
		"no key":      {{Name: "b"}},
		"same key":    {spec("b", nil), {Name: "c", Keys: spec("b", nil).Keys}},
	} {
		if err := d.Replace(specs); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	if d.Authenticate("key of a") == nil || d.Len() != 1 {
		t.Error("a is gone")
	}
}

func TestLimits(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	d := directory(t, spec("a", func(s *Spec) { s.Limits = Limits{RequestsPerMinute: 60, TokensPerMinute: 600, Concurrent: 2} }))
	a := d.Authenticate("key of a")
	over := func(wants string, after time.Duration) {
		t.Helper()
		err := a.Enter(now)
		var o *OverLimit
		if !errors.As(err, &o) || !strings.Contains(o.What, wants) || o.RetryAfter != after {
			t.Fatalf("%v, want %q after %s", err, wants, after)
		}
	}
	enter := func() {
		t.Helper()
		if err := a.Enter(now); err != nil {
			t.Fatal(err)
		}
	}
	enter()
	enter()
	over("in flight", time.Second)
	a.Leave()
	a.Leave()
	// An answer longer than what is left overdraws the account; it is paid back at
	// 10 tokens a second.
	a.Charge(now, 1700)
	over("tokens a minute", 110100*time.Millisecond)
	now = now.Add(111 * time.Second)
	for range 60 {
		enter()
		a.Leave()
	}
	over("requests a minute", time.Second)
	// A reload that changes nothing forgives nothing, and one that changes a limit
	// starts its minute anew.
	if err := d.Replace([]Spec{a.spec}); err != nil {
		t.Fatal(err)
	}
	a = d.Authenticate("key of a")
	over("requests a minute", time.Second)
	s := a.spec
	s.Limits.RequestsPerMinute = 61
	if err := d.Replace([]Spec{s}); err != nil {
		t.Fatal(err)
	}
	a = d.Authenticate("key of a")
	enter()
}

func TestKeysInAFile(t *testing.T) {
	env := func(name string) (string, bool) { return "secret", name == "KEY" }
	want := sha256.Sum256([]byte("secret"))
	for _, s := range []string{"env:KEY", "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"} {
		if got, err := ParseKey(s, env); err != nil || got != want {
			t.Errorf("%s: %x %v", s, got, err)
		}
	}
	for _, s := range []string{"", "secret", "env:OTHER", "sha256:2bb8", "sha256:zz", "plain:secret"} {
		if _, err := ParseKey(s, env); err == nil {
			t.Errorf("%q was taken", s)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the key", err)
		}
	}
}
