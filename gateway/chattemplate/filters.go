package chattemplate

import (
	"strings"
)

// filterDef is a filter, as in {{ x|trim }}.
type filterDef struct {
	sig sig
	fn  func(r *renderer, v Value, a []Value) Value
	raw func(r *renderer, v Value, a *arguments) Value // instead of fn, for any arguments
}

func (d *filterDef) apply(r *renderer, v Value, a *arguments) Value {
	if s, ok := text(v); ok {
		r.scan(len(s))
	}
	if d.raw != nil {
		return d.raw(r, v, a)
	}
	return d.fn(r, v, d.sig.bind(r, a))
}

var filters = make(map[string]*filterDef)

func addFilter(name, spec string, fn func(r *renderer, v Value, a []Value) Value) {
	filters[name] = &filterDef{sig: newSig(name, spec), fn: fn}
}

// alias gives a filter a second name.
func alias(name, of string) { filters[name] = filters[of] }

// softText is str(v), but Markup stays Markup.
func (r *renderer) softText(v Value) (Value, string) {
	if s, ok := text(v); ok {
		return v, s
	}
	s := r.str(v)
	return str(s), s
}

func isUndefined(v Value) bool { return is[*undefined](v) }

// onText adds a filter that maps text to text.
func onText(name string, fn func(string) string) {
	addFilter(name, "", func(r *renderer, v Value, a []Value) Value {
		v, s := r.softText(v)
		r.spend(len(s))
		return like(v, fn(s))
	})
}

func init() {
	addFilter("tojson", "ensure_ascii? indent? separators? sort_keys?", tojson)
	addFilter("default", "default_value? boolean?", func(r *renderer, v Value, a []Value) Value {
		if isUndefined(v) || a[1] != nil && truth(a[1]) && !truth(v) {
			if a[0] == nil {
				return str("")
			}
			return a[0]
		}
		return v
	})
	alias("d", "default")
	addFilter("length", "/", func(r *renderer, v Value, a []Value) Value { return intValue(mustLength(v)) })
	alias("count", "length")
	addFilter("string", "", func(r *renderer, v Value, a []Value) Value {
		v, _ = r.softText(v)
		return v
	})
	addFilter("safe", "", func(r *renderer, v Value, a []Value) Value { return markup(r.str(v)) })
	addFilter("escape", "/", func(r *renderer, v Value, a []Value) Value { return r.escape(v) })
	alias("e", "escape")
	addFilter("forceescape", "", func(r *renderer, v Value, a []Value) Value { return r.escape(str(r.str(v))) })
	addFilter("list", "", func(r *renderer, v Value, a []Value) Value {
		if l, ok := v.(*list); ok {
			return l
		}
		return &list{items: r.items(v)}
	})
	addFilter("items", "", func(r *renderer, v Value, a []Value) Value {
		switch v := v.(type) {
		case *undefined:
			return &generator{next: sliceIter(nil), name: "generator"}
		case *dict:
			return &generator{next: (&dictView{d: v, kind: "dict_items"}).iterate(), name: "generator"}
		}
		return lazy(func() func() (Value, bool) {
			raise(kindType, "Can only get item pairs from a mapping.")
			return nil
		})
	})
	addFilter("join", "d? attribute?", func(r *renderer, v Value, a []Value) Value {
		next := r.mustIterate(v)
		get := r.getter(a[1], nil)
		sep := ""
		if a[0] != nil {
			sep = r.str(a[0])
		}
		var parts []string
		for item, more := next(); more; item, more = next() {
			r.step()
			r.spend(itemCost)
			parts = append(parts, r.str(get(item)))
		}
		return str(r.join(parts, sep))
	})
	addFilter("first", "", func(r *renderer, v Value, a []Value) Value {
		if item, ok := r.mustIterate(v)(); ok {
			return item
		}
		return undefinedHint("No first item, sequence was empty.")
	})
	addFilter("last", "", func(r *renderer, v Value, a []Value) Value {
		if item, ok := r.reversed(v)(); ok {
			return item
		}
		return undefinedHint("No last item, sequence was empty.")
	})
	addFilter("reverse", "", func(r *renderer, v Value, a []Value) Value {
		if s, ok := text(v); ok {
			return like(v, r.sliceText(s, none, none, integer(-1)))
		}
		switch v.(type) {
		case *generator, *undefined, *loopContext:
			items := r.items(v)
			next := r.reversed(&list{items: items})
			return &list{items: r.items(&generator{next: next})}
		}
		if _, ok := r.iterate(v); !ok {
			raise(kindFilterArg, "argument must be iterable")
		}
		return &generator{next: r.reversed(v), name: "list_reverseiterator"}
	})
	addFilter("random", "", func(r *renderer, v Value, a []Value) Value { return notReproducible("random") })
	addFilter("attr", "name", func(r *renderer, v Value, a []Value) Value {
		name, ok := text(a[0])
		if !ok {
			raise(kindType, "attribute name must be string, not '%s'", a[0].typeName())
		}
		if !objectDunders[name] {
			failIfUndefined(v)
		}
		if found := r.attribute(v, name); found != nil {
			return found
		}
		return undefinedAttr(v, a[0])
	})
	addTextFilters()
	addNumberFilters()
	addSequenceFilters()
}

// lazy is a generator that starts when its first item is asked for.
func lazy(start func() func() (Value, bool)) *generator {
	var next func() (Value, bool)
	return &generator{name: "generator", next: func() (Value, bool) {
		if next == nil {
			next = start()
		}
		return next()
	}}
}

// reversed is Python's reversed(v), which not everything iterable allows.
func (r *renderer) reversed(v Value) func() (Value, bool) {
	switch c := v.(type) {
	case *list, *tuple, *dict, *dictView, *rangeObj, str, markup:
		items := r.items(c)
		i := len(items)
		return func() (Value, bool) {
			if i == 0 {
				return nil, false
			}
			i--
			return items[i], true
		}
	case *undefined:
		return sliceIter(nil)
	}
	raise(kindType, "'%s' object is not reversible", v.typeName())
	return nil
}

// getter reads an attribute path such as "a.0.b" from an item; nil reads the item itself.
func (r *renderer) getter(attribute Value, post func(Value) Value) func(Value) Value {
	parts := r.attributeParts(attribute)
	return func(item Value) Value {
		for _, p := range parts {
			item = r.getItem(item, p)
		}
		if post != nil {
			item = post(item)
		}
		return item
	}
}

func (r *renderer) attributeParts(attribute Value) []Value {
	if attribute == nil || attribute == none {
		return nil
	}
	path, ok := text(attribute)
	if !ok {
		return []Value{attribute}
	}
	r.spendTimes(itemCost, len(path))
	var parts []Value
	for _, p := range strings.Split(path, ".") {
		if n, ok := parseInt(p, 10); ok && all(isDigit)(p) {
			parts = append(parts, n)
		} else {
			parts = append(parts, str(p))
		}
	}
	return parts
}

// ignoreCase is the sort key of an item when case does not count.
func ignoreCase(v Value) Value {
	if s, ok := text(v); ok {
		return str(lower(s))
	}
	return v
}

// foldUnless returns ignoreCase unless the flag case_sensitive is set.
func foldUnless(caseSensitive Value) func(Value) Value {
	if caseSensitive != nil && truth(caseSensitive) {
		return nil
	}
	return ignoreCase
}
