package chattemplate

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// strMethods are the methods of str. Those of Markup give Markup.
var strMethods map[string]*methodDef

// textMethod makes a method that is given the receiver as a string and whose text
// results become Markup if that was.
func textMethod(name, spec string, fn func(r *renderer, s string, a []Value) Value) {
	strMethods[name] = &methodDef{sig: newSig(name, spec), fn: func(r *renderer, recv Value, a []Value) Value {
		s, _ := text(recv)
		r.scan(len(s))
		if _, ok := recv.(markup); !ok {
			return fn(r, s, a)
		}
		switch name {
		case "replace":
			a[1] = r.escape(a[1])
		case "join":
			a[0] = r.escapeItems(a[0])
		}
		return asMarkup(fn(r, s, a))
	}}
}

func (r *renderer) escapeItems(v Value) Value {
	items := r.items(v)
	out := make([]Value, len(items))
	for i, item := range items {
		out[i] = r.escape(item)
	}
	return &list{items: out}
}

func asMarkup(v Value) Value {
	switch v := v.(type) {
	case str:
		return markup(v)
	case *list:
		out := make([]Value, len(v.items))
		for i, item := range v.items {
			out[i] = asMarkup(item)
		}
		return &list{items: out}
	case *tuple:
		return &tuple{items: asMarkup(&list{items: v.items}).(*list).items}
	}
	return v
}

func init() {
	strMethods = make(map[string]*methodDef)
	for name, f := range map[string]func(string) string{
		"upper": upper, "lower": lower, "title": title, "capitalize": capitalize,
		"swapcase": swapcase, "casefold": casefold,
	} {
		textMethod(name, "/", func(r *renderer, s string, a []Value) Value {
			r.spend(len(s))
			return str(f(s))
		})
	}
	for name, f := range map[string]func(string) bool{
		"isalnum": all(isAlnum), "isalpha": all(unicode.IsLetter), "isdigit": all(isDigit),
		"isdecimal": all(func(c rune) bool { return unicode.Is(unicode.Nd, c) }), "isnumeric": all(isNumeric),
		"isspace": all(isSpace), "islower": cased(isLower), "isupper": cased(isUpper), "istitle": isTitled,
		"isascii": isASCII, "isidentifier": isIdentifier,
		"isprintable": func(s string) bool { return s == "" || all(unicode.IsPrint)(s) },
	} {
		textMethod(name, "/", func(r *renderer, s string, a []Value) Value { return boolean(f(s)) })
	}
	textMethod("strip", "/ chars?", stripper(strings.TrimFunc))
	textMethod("lstrip", "/ chars?", stripper(strings.TrimLeftFunc))
	textMethod("rstrip", "/ chars?", stripper(strings.TrimRightFunc))
	textMethod("startswith", "/ prefix start? end?", affix(strings.HasPrefix, "startswith"))
	textMethod("endswith", "/ suffix start? end?", affix(strings.HasSuffix, "endswith"))
	textMethod("removeprefix", "/ prefix", func(r *renderer, s string, a []Value) Value {
		return str(strings.TrimPrefix(s, mustText(a[0])))
	})
	textMethod("removesuffix", "/ suffix", func(r *renderer, s string, a []Value) Value {
		return str(strings.TrimSuffix(s, mustText(a[0])))
	})
	textMethod("split", "sep? maxsplit?", func(r *renderer, s string, a []Value) Value {
		return r.texts(splitLeft(r, s, sepOf(a[0]), intOr(a[1], -1)))
	})
	textMethod("rsplit", "sep? maxsplit?", func(r *renderer, s string, a []Value) Value {
		return r.texts(splitRight(r, s, sepOf(a[0]), intOr(a[1], -1)))
	})
	textMethod("splitlines", "keepends?", func(r *renderer, s string, a []Value) Value {
		return r.texts(splitLines(s, a[0] != nil && truth(a[0])))
	})
	textMethod("partition", "/ sep", func(r *renderer, s string, a []Value) Value {
		sep := sepOf(a[0])
		if sep == nil {
			raise(kindType, "must be str, not NoneType")
		}
		before, after, found := strings.Cut(s, *sep)
		if !found {
			return newTuple(str(s), str(""), str(""))
		}
		return newTuple(str(before), str(*sep), str(after))
	})
	textMethod("rpartition", "/ sep", func(r *renderer, s string, a []Value) Value {
		sep := sepOf(a[0])
		if sep == nil {
			raise(kindType, "must be str, not NoneType")
		}
		i := strings.LastIndex(s, *sep)
		if i < 0 {
			return newTuple(str(""), str(""), str(s))
		}
		return newTuple(str(s[:i]), str(*sep), str(s[i+len(*sep):]))
	})
	textMethod("replace", "/ old new count?", func(r *renderer, s string, a []Value) Value {
		return str(r.replace(s, mustText(a[0]), mustText(a[1]), intOr(a[2], -1)))
	})
	textMethod("join", "/ iterable", func(r *renderer, s string, a []Value) Value {
		next, ok := r.iterate(a[0])
		if !ok {
			raise(kindType, "can only join an iterable")
		}
		var parts []string
		for v, more := next(); more; v, more = next() {
			part, ok := text(v)
			if !ok {
				raise(kindType, "sequence item %d: expected str instance, %s found", len(parts), v.typeName())
			}
			r.spend(itemCost)
			parts = append(parts, part)
		}
		return str(r.join(parts, s))
	})
	textMethod("find", "/ sub start? end?", finder(strings.Index, ""))
	textMethod("rfind", "/ sub start? end?", finder(strings.LastIndex, ""))
	textMethod("index", "/ sub start? end?", finder(strings.Index, "substring not found"))
	textMethod("rindex", "/ sub start? end?", finder(strings.LastIndex, "substring not found"))
	textMethod("count", "/ sub start? end?", func(r *renderer, s string, a []Value) Value {
		part, _, ok := window(s, a[1], a[2])
		if !ok {
			return integer(0)
		}
		return intValue(strings.Count(part, mustText(a[0])))
	})
	textMethod("center", "/ width fillchar?", padder(func(r *renderer, s string, pad, width int, fill string) string {
		left := pad/2 + pad&width&1 // CPython rounds to the left only if both are odd
		return strings.Repeat(fill, left) + s + strings.Repeat(fill, pad-left)
	}))
	textMethod("ljust", "/ width fillchar?", padder(func(r *renderer, s string, pad, width int, fill string) string {
		return s + strings.Repeat(fill, pad)
	}))
	textMethod("rjust", "/ width fillchar?", padder(func(r *renderer, s string, pad, width int, fill string) string {
		return strings.Repeat(fill, pad) + s
	}))
	textMethod("zfill", "/ width", func(r *renderer, s string, a []Value) Value {
		pad := max(mustInt(a[0])-utf8.RuneCountInString(s), 0)
		r.spend(pad)
		sign := signAt(s, 0)
		return str(sign + strings.Repeat("0", pad) + s[len(sign):])
	})
	textMethod("expandtabs", "tabsize?", func(r *renderer, s string, a []Value) Value {
		return str(r.expandTabs(s, intOr(a[0], 8)))
	})
	strMethods["format"] = &methodDef{raw: func(r *renderer, recv Value, a *arguments) Value {
		s, _ := text(recv)
		return like(recv, r.format(recv, s, a.pos, a.kwDict()))
	}}
	strMethods["format_map"] = &methodDef{sig: newSig("format_map", "/ mapping"), fn: func(r *renderer, recv Value, a []Value) Value {
		s, _ := text(recv)
		d, ok := a[0].(*dict)
		if !ok {
			raise(kindType, "format_map() argument must be a mapping")
		}
		return like(recv, r.format(recv, s, nil, d))
	}}
}

// all tests every character of a text that has some.
func all(ok func(rune) bool) func(string) bool {
	return func(s string) bool {
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !ok(c) }) < 0
	}
}

// cased tests every cased character, of which there must be one.
func cased(ok func(rune) bool) func(string) bool {
	return func(s string) bool {
		found := false
		for _, c := range s {
			if isCased(c) {
				if !ok(c) {
					return false
				}
				found = true
			}
		}
		return found
	}
}

func isTitled(s string) bool {
	found, inWord := false, false
	for _, c := range s {
		switch {
		case isUpper(c) || isTitle(c):
			if inWord {
				return false
			}
			found, inWord = true, true
		case isLower(c):
			if !inWord {
				return false
			}
		default:
			inWord = false
		}
	}
	return found
}

func isIdentifier(s string) bool {
	for i, c := range s {
		if c != '_' && !unicode.IsLetter(c) && (i == 0 || !unicode.In(c, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc)) {
			return false
		}
	}
	return s != ""
}

func stripper(trim func(string, func(rune) bool) string) func(*renderer, string, []Value) Value {
	return func(r *renderer, s string, a []Value) Value { return str(stripText(r, s, a[0], trim)) }
}

func stripText(r *renderer, s string, chars Value, trim func(string, func(rune) bool) string) string {
	if chars == nil || chars == none {
		return trim(s, isSpace)
	}
	cut, ok := text(chars)
	if !ok {
		raise(kindType, "strip arg must be None or str")
	}
	if len(cut) > 4 {
		r.spend(itemCost * len(cut))
		in := make(map[rune]bool)
		for _, c := range cut {
			in[c] = true
		}
		return trim(s, func(c rune) bool { return in[c] })
	}
	return trim(s, func(c rune) bool { return strings.ContainsRune(cut, c) })
}

func mustText(v Value) string {
	s, ok := text(v)
	if !ok {
		raise(kindType, "must be str, not %s", v.typeName())
	}
	return s
}

// mustInt is an int argument; one beyond any size we accept is cut off there.
func mustInt(v Value) int {
	n, ok := asInt(v)
	if !ok {
		failIfUndefined(v)
		raise(kindType, "'%s' object cannot be interpreted as an integer", v.typeName())
	}
	if !n.IsInt64() || n.BitLen() > 40 {
		return n.Sign() << 40
	}
	return int(n.Int64())
}

func intOr(v Value, def int) int {
	if v == nil {
		return def
	}
	return mustInt(v)
}

// affix tests for a prefix or suffix, or any of a tuple of them.
func affix(has func(s, part string) bool, name string) func(*renderer, string, []Value) Value {
	return func(r *renderer, s string, a []Value) Value {
		part, _, ok := window(s, a[1], a[2])
		candidates := []Value{a[0]}
		if t, isTuple := a[0].(*tuple); isTuple {
			candidates = t.items
		}
		for _, c := range candidates {
			p, isText := text(c)
			if !isText {
				raise(kindType, "%s first arg must be str or a tuple of str, not %s", name, c.typeName())
			}
			if ok && has(part, p) {
				return boolean(true)
			}
		}
		return boolean(false)
	}
}

// window is s[start:end] with the index of its start; false if start is past the end.
func window(s string, start, end Value) (part string, from int, ok bool) {
	if start == nil && end == nil {
		return s, 0, true
	}
	if start == nil {
		start = none
	}
	if end == nil {
		end = none
	}
	length := utf8.RuneCountInString(s)
	if n, isInt := asInt(start); isInt && n.IsInt64() && n.Int64() > int64(length) {
		return "", 0, false
	}
	from, _, n := sliceBounds(length, start, end, none)
	begin := runeOffset(s, from)
	return s[begin : begin+runeOffset(s[begin:], n)], from, true
}

func finder(index func(s, sub string) int, missing string) func(*renderer, string, []Value) Value {
	return func(r *renderer, s string, a []Value) Value {
		part, from, ok := window(s, a[1], a[2])
		i := -1
		if sub := mustText(a[0]); ok {
			i = index(part, sub)
		}
		if i >= 0 {
			return intValue(from + utf8.RuneCountInString(part[:i]))
		}
		if missing != "" {
			raise(kindValue, "%s", missing)
		}
		return integer(-1)
	}
}

func padder(pad func(r *renderer, s string, n, width int, fill string) string) func(*renderer, string, []Value) Value {
	return func(r *renderer, s string, a []Value) Value {
		width, fill := mustInt(a[0]), " "
		if a[1] != nil {
			fill = mustText(a[1])
			if utf8.RuneCountInString(fill) != 1 {
				raise(kindType, "The fill character must be exactly one character long")
			}
		}
		n := max(width-utf8.RuneCountInString(s), 0)
		r.spend(len(s))
		r.spendTimes(len(fill), n)
		return str(pad(r, s, n, width, fill))
	}
}

// texts is a list of strings.
func (r *renderer) texts(parts []string) Value {
	r.spendTimes(itemCost, len(parts))
	items := make([]Value, len(parts))
	for i, p := range parts {
		items[i] = str(p)
	}
	return &list{items: items}
}

func (r *renderer) replace(s, old, new string, count int) string {
	if count < 0 {
		count = -1
	}
	if len(new) > len(old) {
		n := utf8.RuneCountInString(s) + 1
		if old != "" {
			n = strings.Count(s, old)
		}
		if count >= 0 {
			n = min(n, count)
		}
		r.spendTimes(len(new)-len(old), n)
	}
	r.spend(len(s))
	return strings.Replace(s, old, new, count)
}

func (r *renderer) expandTabs(s string, size int) string {
	r.spend(len(s))
	var b strings.Builder
	column := 0
	for _, c := range s {
		switch {
		case c == '\t' && size > 0:
			n := size - column%size
			r.spend(n)
			b.WriteString(strings.Repeat(" ", n))
			column += n
			continue
		case c == '\t':
			continue
		case c == '\n' || c == '\r':
			column = -1
		}
		column++
		b.WriteRune(c)
	}
	return b.String()
}
