package chattemplate

import (
	"math/big"
	"unicode/utf8"
)

// Value is a Python value: what FromJSON makes and Render reads.
type Value interface {
	typeName() string // Python's type(v).__name__
}

type (
	noneType struct{}
	boolean  bool
	integer  int64
	float    float64
	str      string // always valid UTF-8
	markup   string // markupsafe.Markup: a str that escapes what is joined to it

	// bigInt is an int outside int64. Operations normalise: an int64 never hides in one.
	bigInt struct{ v *big.Int }

	list  struct{ items []Value }
	tuple struct {
		items []Value
		names []string // attribute names of a named tuple, else nil
	}

	// rangeObj is a range of at most maxRange items.
	rangeObj struct {
		start, stop, step int64
		n                 int
	}

	// dictView is d.keys(), d.values() or d.items().
	dictView struct {
		d    *dict
		kind string // dict_keys, dict_values, dict_items
	}

	// generator is any lazy iterator. next reports false at the end, and from then on.
	generator struct {
		next func() (Value, bool)
		name string
	}

	// undefined is Jinja's Undefined: silent when printed, tested or iterated, an
	// error in any other use.
	undefined struct {
		hint string
		obj  Value // what lacks name, nil if a variable is missing
		name Value
		kind string // kindUndefined, or kindSecurity if the sandbox refused access
	}

	// namespace is the one mutable value: {% set ns.x = ... %}.
	namespace struct {
		attrs   *dict
		inPrint bool
	}

	cycler struct {
		items []Value
		pos   int
	}
	joiner struct {
		sep  Value
		used bool
	}
)

var none = noneType{}

func (noneType) typeName() string     { return "NoneType" }
func (boolean) typeName() string      { return "bool" }
func (integer) typeName() string      { return "int" }
func (bigInt) typeName() string       { return "int" }
func (float) typeName() string        { return "float" }
func (str) typeName() string          { return "str" }
func (markup) typeName() string       { return "Markup" }
func (*list) typeName() string        { return "list" }
func (*tuple) typeName() string       { return "tuple" }
func (*dict) typeName() string        { return "dict" }
func (*rangeObj) typeName() string    { return "range" }
func (v *dictView) typeName() string  { return v.kind }
func (v *generator) typeName() string { return v.name }
func (*undefined) typeName() string   { return "Undefined" }
func (*namespace) typeName() string   { return "Namespace" }
func (*cycler) typeName() string      { return "Cycler" }
func (*joiner) typeName() string      { return "Joiner" }

// fail raises the error that using an undefined value gives.
func (u *undefined) fail() {
	panic(&Error{Kind: u.kind, Message: u.message()})
}

func (u *undefined) message() string {
	name, isStr := u.name.(str)
	switch {
	case u.hint != "":
		return u.hint
	case u.obj == nil:
		return repr(u.name) + " is undefined"
	case !isStr:
		return objectTypeRepr(u.obj) + " has no element " + repr(u.name)
	default:
		return repr(str(objectTypeRepr(u.obj))) + " has no attribute " + repr(name)
	}
}

func objectTypeRepr(v Value) string {
	switch v.(type) {
	case noneType:
		return "None"
	case *namespace:
		return "jinja2.utils.Namespace object"
	case *loopContext:
		return "jinja2.runtime.LoopContext object"
	case *macro:
		return "jinja2.runtime.Macro object"
	case markup:
		return "markupsafe.Markup object"
	}
	return v.typeName() + " object"
}

func undefinedVar(name string) *undefined {
	return &undefined{name: str(name), kind: kindUndefined}
}

func undefinedAttr(obj, name Value) *undefined {
	return &undefined{obj: obj, name: name, kind: kindUndefined}
}

func undefinedHint(hint string) *undefined {
	return &undefined{hint: hint, name: none, kind: kindUndefined}
}

// text returns the characters of a str or Markup.
func text(v Value) (s string, ok bool) {
	switch v := v.(type) {
	case str:
		return string(v), true
	case markup:
		return string(v), true
	}
	return "", false
}

// like returns s as the type of text that v is: methods of Markup give Markup.
func like(v Value, s string) Value {
	if _, ok := v.(markup); ok {
		return markup(s)
	}
	return str(s)
}

// truth is Python's bool(v).
func truth(v Value) bool {
	switch v := v.(type) {
	case noneType:
		return false
	case boolean:
		return bool(v)
	case integer:
		return v != 0
	case float:
		return v != 0
	case str:
		return v != ""
	case markup:
		return v != ""
	case *undefined:
		return false
	}
	n, ok := length(v)
	return !ok || n > 0
}

// length is Python's len(v); false if v has none.
func length(v Value) (int, bool) {
	switch v := v.(type) {
	case str:
		return utf8.RuneCountInString(string(v)), true
	case markup:
		return utf8.RuneCountInString(string(v)), true
	case *list:
		return len(v.items), true
	case *tuple:
		return len(v.items), true
	case *dict:
		return len(v.keys), true
	case *rangeObj:
		return v.n, true
	case *dictView:
		return len(v.d.keys), true
	case *undefined:
		return 0, true
	case *loopContext:
		return v.length(), true
	}
	return 0, false
}

func mustLength(v Value) int {
	n, ok := length(v)
	if !ok {
		raise(kindType, "object of type '%s' has no len()", v.typeName())
	}
	return n
}

func boolValue(b bool) Value { return boolean(b) }

func intValue(n int) Value { return integer(n) }

func (g *rangeObj) at(i int) Value { return integer(g.start + int64(i)*g.step) }

func newTuple(items ...Value) *tuple { return &tuple{items: items} }
