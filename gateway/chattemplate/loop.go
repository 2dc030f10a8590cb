package chattemplate

import "unicode/utf8"

// loopContext is the loop variable.
type loopContext struct {
	iterable Value
	next     func() (Value, bool)
	recurse  func(iter Value, depth int) Value
	depth0   int

	index0  int
	current Value
	before  Value
	after   Value // the next item, if it was looked at
	known   int   // the length plus one, once known
	changed []Value
}

func (*loopContext) typeName() string { return "LoopContext" }

func (l *loopContext) advance() (Value, bool) {
	item := l.after
	l.after = nil
	if item == nil {
		var ok bool
		if item, ok = l.next(); !ok {
			return nil, false
		}
	}
	l.index0++
	l.before, l.current = l.current, item
	return item, true
}

func (l *loopContext) peek() Value {
	if l.after == nil {
		if item, ok := l.next(); ok {
			l.after = item
		}
	}
	return l.after
}

// length is the number of items; of a generator it takes the rest to find out.
func (l *loopContext) length() int {
	if l.known == 0 {
		n, ok := length(l.iterable)
		if !ok {
			var rest []Value
			for item, more := l.next(); more; item, more = l.next() {
				rest = append(rest, item)
			}
			n = len(rest) + l.index0 + 1
			if l.after != nil {
				n++
			}
			l.next = sliceIter(rest)
		}
		l.known = n + 1
	}
	return l.known - 1
}

// attr is the attribute of that name, or nil.
func (l *loopContext) attr(name string) Value {
	switch name {
	case "index":
		return intValue(l.index0 + 1)
	case "index0":
		return intValue(l.index0)
	case "revindex":
		return intValue(l.length() - l.index0)
	case "revindex0":
		return intValue(l.length() - l.index0 - 1)
	case "first":
		return boolValue(l.index0 == 0)
	case "last":
		return boolValue(l.peek() == nil)
	case "length":
		return intValue(l.length())
	case "depth":
		return intValue(l.depth0 + 1)
	case "depth0":
		return intValue(l.depth0)
	case "previtem":
		if l.index0 == 0 {
			return undefinedHint("there is no previous item")
		}
		return l.before
	case "nextitem":
		if item := l.peek(); item != nil {
			return item
		}
		return undefinedHint("there is no next item")
	case "cycle":
		return &method{recv: l, def: loopCycle}
	case "changed":
		return &method{recv: l, def: loopChanged}
	}
	return nil
}

var (
	loopCycle = &methodDef{sig: newSig("cycle", "*"), fn: func(r *renderer, v Value, a []Value) Value {
		l, items := v.(*loopContext), a[0].(*tuple).items
		if len(items) == 0 {
			raise(kindType, "no items for cycling given")
		}
		return items[l.index0%len(items)]
	}}
	loopChanged = &methodDef{sig: newSig("changed", "*"), fn: func(r *renderer, v Value, a []Value) Value {
		l, items := v.(*loopContext), a[0].(*tuple).items
		if l.changed != nil && r.equal(newTuple(l.changed...), a[0]) {
			return boolean(false)
		}
		l.changed = append([]Value{}, items...)
		return boolean(true)
	}}
)

func (l *loopContext) call(r *renderer, a *arguments) Value {
	if l.recurse == nil {
		raise(kindType, "The loop must have the 'recursive' marker to be called recursively.")
	}
	args := loopCallSig.bind(r, a)
	return l.recurse(args[0], l.depth0+1)
}

var loopCallSig = newSig("loop", "iterable")

// sliceIter iterates over items.
func sliceIter(items []Value) func() (Value, bool) {
	i := 0
	return func() (Value, bool) {
		if i >= len(items) {
			return nil, false
		}
		i++
		return items[i-1], true
	}
}

// iterate is Python's iter(v); false if v cannot be iterated.
func (r *renderer) iterate(v Value) (func() (Value, bool), bool) {
	switch v := v.(type) {
	case *list:
		return sliceIter(v.items), true
	case *tuple:
		return sliceIter(v.items), true
	case *dict:
		return sliceIter(v.keys), true
	case *dictView:
		return v.iterate(), true
	case *generator:
		return v.next, true
	case *undefined:
		return sliceIter(nil), true
	case str:
		return runeIter(string(v)), true
	case markup:
		return runeIter(string(v)), true
	case *rangeObj:
		i := 0
		return func() (Value, bool) {
			if i >= v.n {
				return nil, false
			}
			i++
			return v.at(i - 1), true
		}, true
	case *loopContext:
		return func() (Value, bool) {
			item, ok := v.advance()
			if !ok {
				return nil, false
			}
			return newTuple(item, v), true
		}, true
	}
	return nil, false
}

func runeIter(s string) func() (Value, bool) {
	return func() (Value, bool) {
		if s == "" {
			return nil, false
		}
		_, n := utf8.DecodeRuneInString(s)
		c := s[:n]
		s = s[n:]
		return str(c), true
	}
}

func (v *dictView) iterate() func() (Value, bool) {
	switch v.kind {
	case "dict_keys":
		return sliceIter(v.d.keys)
	case "dict_values":
		return sliceIter(v.d.vals)
	}
	i := 0
	return func() (Value, bool) {
		if i >= len(v.d.keys) {
			return nil, false
		}
		i++
		return newTuple(v.d.keys[i-1], v.d.vals[i-1]), true
	}
}

// mustIterate is iterate, failing as Python's iter does.
func (r *renderer) mustIterate(v Value) func() (Value, bool) {
	next, ok := r.iterate(v)
	if !ok {
		raise(kindType, "'%s' object is not iterable", v.typeName())
	}
	return next
}

// items is Python's list(v). The result must not be changed.
func (r *renderer) items(v Value) []Value {
	switch v := v.(type) {
	case *list:
		return v.items
	case *tuple:
		return v.items
	case *dict:
		return v.keys
	}
	next := r.mustIterate(v)
	var out []Value
	for item, more := next(); more; item, more = next() {
		r.step()
		r.spend(itemCost)
		out = append(out, item)
	}
	return out
}
