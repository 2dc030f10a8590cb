package chattemplate

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

func addTextFilters() {
	onText("upper", upper)
	onText("lower", lower)
	onText("capitalize", capitalize)
	onText("title", filterTitle)
	addFilter("trim", "chars?", func(r *renderer, v Value, a []Value) Value {
		v, s := r.softText(v)
		return like(v, stripText(r, s, a[0], strings.TrimFunc))
	})
	addFilter("replace", "old new count?", func(r *renderer, v Value, a []Value) Value {
		count := -1
		if a[2] != nil && a[2] != none {
			count = mustInt(a[2])
		}
		return str(r.replace(r.str(v), r.str(a[0]), r.str(a[1]), count))
	})
	filters["format"] = &filterDef{raw: func(r *renderer, v Value, a *arguments) Value {
		if len(a.pos) > 0 && len(a.kwNames) > 0 {
			raise(kindFilterArg, "can't handle positional and keyword arguments at the same time")
		}
		v, s := r.softText(v)
		if len(a.kwNames) > 0 {
			return like(v, r.printf(v, s, a.kwDict()))
		}
		return like(v, r.printf(v, s, newTuple(a.pos...)))
	}}
	addFilter("center", "width?", func(r *renderer, v Value, a []Value) Value {
		v, _ = r.softText(v)
		width := Value(integer(80))
		if a[0] != nil {
			width = a[0]
		}
		return strMethods["center"].fn(r, v, []Value{width, nil})
	})
	addFilter("indent", "width? first? blank?", indent)
	addFilter("truncate", "length? killwords? end? leeway?", truncate)
	addFilter("wordcount", "", func(r *renderer, v Value, a []Value) Value {
		_, s := r.softText(v)
		return intValue(len(strings.FieldsFunc(s, func(c rune) bool { return c != '_' && !isAlnum(c) })))
	})
	addFilter("wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", wordwrap)
	addFilter("striptags", "", func(r *renderer, v Value, a []Value) Value {
		s := r.str(v)
		r.scan(regexpCost * len(s))
		s = comments.ReplaceAllString(s, "")
		s = tags.ReplaceAllString(s, "")
		r.spend(len(s))
		return str(html.UnescapeString(strings.Join(splitLeft(r, s, nil, -1), " ")))
	})
	addFilter("urlencode", "", urlencode)
	for _, name := range []string{"pprint", "urlize"} {
		filters[name] = &filterDef{raw: func(*renderer, Value, *arguments) Value {
			raise(kindRuntime, "the filter %s is not supported in chat templates", name)
			return nil
		}}
	}
	addFilter("xmlattr", "autospace?", xmlattr)
}

// regexpCost is how much slower than a plain search a regular expression is.
const regexpCost = 16

var (
	comments = regexp.MustCompile(`(?s)<!--.*?-->`)
	tags     = regexp.MustCompile(`(?s)<.*?>`)
)

// escapeHTML is markupsafe's escape of text.
func escapeHTML(s string) string { return htmlEscaper.Replace(s) }

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

func (r *renderer) escape(v Value) Value {
	if m, ok := v.(markup); ok {
		return m
	}
	s := r.str(v)
	r.spendTimes(len(s), 5)
	return markup(escapeHTML(s))
}

// filterTitle is Jinja's own idea of title case.
func filterTitle(s string) string {
	var b strings.Builder
	start := true
	for s != "" {
		c, n := utf8.DecodeRuneInString(s)
		if isSpace(c) || strings.ContainsRune("-({[<", c) {
			b.WriteString(s[:n])
			s, start = s[n:], true
			continue
		}
		if start {
			b.WriteString(upper(s[:n]))
			s, start = s[n:], false
			continue
		}
		end := strings.IndexFunc(s, func(c rune) bool { return isSpace(c) || strings.ContainsRune("-({[<", c) })
		if end < 0 {
			end = len(s)
		}
		b.WriteString(lower(s[:end]))
		s = s[end:]
	}
	return b.String()
}

func indent(r *renderer, v Value, a []Value) Value {
	by := "    "
	if a[0] != nil {
		if s, ok := text(a[0]); ok {
			by = s
		} else {
			n := max(mustInt(a[0]), 0)
			r.spend(n)
			by = strings.Repeat(" ", n)
		}
	}
	s, ok := text(v)
	if !ok {
		failIfUndefined(v)
		raise(kindType, "unsupported operand type(s) for +=: '%s' and 'str'", v.typeName())
	}
	lines := splitLines(s+"\n", false)
	r.spend(len(s))
	r.spendTimes(len(by)+1, len(lines)+1)
	blank := flag(a[2])
	var b strings.Builder
	if flag(a[1]) {
		b.WriteString(by)
	}
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
			if blank || line != "" {
				b.WriteString(by)
			}
		}
		b.WriteString(line)
	}
	return like(v, b.String())
}

func truncate(r *renderer, v Value, a []Value) Value {
	end := "..."
	if a[2] != nil {
		end = mustText(a[2])
	}
	size, leeway, endLen := intOr(a[0], 255), 5, utf8.RuneCountInString(end)
	if a[3] != nil && a[3] != none {
		leeway = mustInt(a[3])
	}
	if size < endLen {
		raise(kindAssert, "expected length >= %d, got %d", endLen, size)
	}
	if leeway < 0 {
		raise(kindAssert, "expected leeway >= 0, got %d", leeway)
	}
	if mustLength(v) <= size+leeway {
		return v
	}
	s, ok := text(v)
	if !ok {
		raise(kindType, "truncate needs text, not %s", v.typeName())
	}
	cut := s[:runeOffset(s, size-endLen)]
	if !flag(a[1]) {
		if i := strings.LastIndexByte(cut, ' '); i >= 0 {
			cut = cut[:i]
		}
	}
	r.spend(len(cut) + len(end))
	return like(v, cut+end)
}

// quoteURL is urllib's quote of text.
func quoteURL(r *renderer, v Value, query bool) string {
	s := r.str(v)
	r.spendTimes(len(s), 3)
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < utf8.RuneSelf && (unicode.IsLetter(rune(c)) || isDecimal(c)), strings.IndexByte("_.-~", c) >= 0, c == '/' && !query:
			b.WriteByte(c)
		case c == ' ' && query:
			b.WriteByte('+')
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func urlencode(r *renderer, v Value, a []Value) Value {
	next, iterable := r.iterate(v)
	if _, ok := text(v); ok || !iterable {
		return str(quoteURL(r, v, false))
	}
	if d, ok := v.(*dict); ok {
		next = (&dictView{d: d, kind: "dict_items"}).iterate()
	}
	var parts []string
	for item, more := next(); more; item, more = next() {
		r.step()
		kv := r.items(item)
		if len(kv) != 2 {
			raise(kindValue, "not a pair to encode")
		}
		parts = append(parts, quoteURL(r, kv[0], true)+"="+quoteURL(r, kv[1], true))
	}
	return str(r.join(parts, "&"))
}

func xmlattr(r *renderer, v Value, a []Value) Value {
	failIfUndefined(v)
	d, ok := v.(*dict)
	if !ok {
		raise(kindType, "'%s' object has no attribute 'items'", v.typeName())
	}
	var parts []string
	for i, k := range d.keys {
		if d.vals[i] == none || isUndefined(d.vals[i]) {
			continue
		}
		if key := mustText(k); strings.ContainsAny(key, " \t\n\r\f\v/>=") {
			raise(kindValue, "Invalid character in attribute name: %s", repr(k))
		}
		parts = append(parts, r.str(r.escape(k))+`="`+r.str(r.escape(d.vals[i]))+`"`)
	}
	out := r.join(parts, " ")
	if out != "" && (a[0] == nil || truth(a[0])) {
		out = " " + out
	}
	return str(out)
}
