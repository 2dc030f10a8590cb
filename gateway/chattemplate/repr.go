package chattemplate

import (
	"fmt"
	"strings"
	"unicode"
)

// str is Python's str(v), as {{ v }} prints it.
func (r *renderer) str(v Value) string {
	switch v := v.(type) {
	case str:
		return string(v)
	case markup:
		return string(v)
	case *undefined:
		return ""
	}
	s := repr(v)
	r.spend(len(s))
	return s
}

// repr is Python's repr(v).
func repr(v Value) string {
	p := printer{}
	p.value(v, 0)
	return p.b.String()
}

// printer writes reprs. It has a bound of its own since errors need it too.
type printer struct{ b strings.Builder }

func (p *printer) value(v Value, depth int) {
	checkDepth(depth)
	if p.b.Len() > maxOutput {
		raise(kindLimit, "the printed value is larger than %d bytes", maxOutput)
	}
	switch v := v.(type) {
	case noneType:
		p.b.WriteString("None")
	case boolean:
		if v {
			p.b.WriteString("True")
		} else {
			p.b.WriteString("False")
		}
	case integer, bigInt:
		p.b.WriteString(intRepr(v))
	case float:
		p.b.WriteString(floatRepr(float64(v)))
	case str:
		quote(&p.b, string(v))
	case markup:
		p.b.WriteString("Markup(")
		quote(&p.b, string(v))
		p.b.WriteByte(')')
	case *list:
		p.b.WriteByte('[')
		p.items(v.items, depth)
		p.b.WriteByte(']')
	case *tuple:
		p.b.WriteByte('(')
		p.items(v.items, depth)
		if len(v.items) == 1 {
			p.b.WriteByte(',')
		}
		p.b.WriteByte(')')
	case *dict:
		p.dict(v, depth)
	case *dictView:
		p.b.WriteString(v.kind + "([")
		next, first := v.iterate(), true
		for item, more := next(); more; item, more = next() {
			if !first {
				p.b.WriteString(", ")
			}
			first = false
			p.value(item, depth+1)
		}
		p.b.WriteString("])")
	default:
		p.object(v, depth)
	}
}

func (p *printer) items(items []Value, depth int) {
	for i, item := range items {
		if i > 0 {
			p.b.WriteString(", ")
		}
		p.value(item, depth+1)
	}
}

func (p *printer) dict(d *dict, depth int) {
	p.b.WriteByte('{')
	for i, k := range d.keys {
		if i > 0 {
			p.b.WriteString(", ")
		}
		p.value(k, depth+1)
		p.b.WriteString(": ")
		p.value(d.vals[i], depth+1)
	}
	p.b.WriteByte('}')
}

func (p *printer) object(v Value, depth int) {
	switch v := v.(type) {
	case *rangeObj:
		if v.step == 1 {
			fmt.Fprintf(&p.b, "range(%d, %d)", v.start, v.stop)
		} else {
			fmt.Fprintf(&p.b, "range(%d, %d, %d)", v.start, v.stop, v.step)
		}
	case *namespace:
		if v.inPrint { // Python marks the inner dict of a cycle
			p.b.WriteString("<Namespace {...}>")
			return
		}
		v.inPrint = true
		defer func() { v.inPrint = false }()
		p.b.WriteString("<Namespace ")
		p.dict(v.attrs, depth)
		p.b.WriteByte('>')
	case *undefined:
		p.b.WriteString("Undefined")
	case *macro:
		if v.def.name == "" {
			p.b.WriteString("<Macro anonymous>")
		} else {
			p.b.WriteString("<Macro " + repr(str(v.def.name)) + ">")
		}
	case *loopContext:
		fmt.Fprintf(&p.b, "<LoopContext %d/%d>", v.index0+1, v.length())
	default: // Python would print an address
		fmt.Fprintf(&p.b, "<%s object>", v.typeName())
	}
}

// quote writes the repr of a str.
func quote(b *strings.Builder, s string) {
	q := '\''
	if strings.IndexByte(s, '\'') >= 0 && strings.IndexByte(s, '"') < 0 {
		q = '"'
	}
	b.WriteRune(q)
	for _, c := range s {
		switch {
		case c == q || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c >= ' ' && c < 0x7f, c >= 0x80 && unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			b.WriteString(asciiEscape(c))
		}
	}
	b.WriteRune(q)
}
