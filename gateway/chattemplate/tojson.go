package chattemplate

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonWriter writes a value as json.dumps does with the options of transformers'
// tojson filter.
type jsonWriter struct {
	r               *renderer
	b               strings.Builder
	ascii, sorted   bool
	indent          *string
	itemSep, keySep string
	spentAt         int
}

func tojson(r *renderer, v Value, a []Value) Value {
	w := &jsonWriter{r: r, itemSep: ", ", keySep: ": "}
	w.ascii = a[0] != nil && truth(a[0])
	w.sorted = a[3] != nil && truth(a[3])
	if a[1] != nil && a[1] != none {
		w.itemSep = ","
		indent, ok := text(a[1])
		if !ok {
			n := max(mustInt(a[1]), 0)
			r.spend(n)
			indent = strings.Repeat(" ", n)
		}
		w.indent = &indent
	}
	if a[2] != nil && a[2] != none {
		seps := r.items(a[2])
		if len(seps) != 2 {
			raise(kindValue, "separators must be two strings")
		}
		w.itemSep, w.keySep = mustText(seps[0]), mustText(seps[1])
	}
	w.value(v, 0)
	w.charge()
	return str(w.b.String())
}

// charge spends what was written since it was last called.
func (w *jsonWriter) charge() {
	w.r.spend(w.b.Len() - w.spentAt)
	w.spentAt = w.b.Len()
}

func (w *jsonWriter) value(v Value, depth int) {
	checkDepth(depth)
	switch v := v.(type) {
	case str:
		w.str(string(v))
	case markup:
		w.str(string(v))
	case *list:
		w.array(v.items, depth)
	case *tuple:
		w.array(v.items, depth)
	case *dict:
		w.object(v, depth)
	default:
		s, ok := jsonScalar(v)
		if !ok {
			raise(kindType, "Object of type %s is not JSON serializable", v.typeName())
		}
		w.b.WriteString(s)
	}
}

func jsonScalar(v Value) (string, bool) {
	switch v := v.(type) {
	case noneType:
		return "null", true
	case boolean:
		return fmt.Sprint(bool(v)), true
	case integer, bigInt:
		return intRepr(v), true
	case float:
		switch f := float64(v); {
		case math.IsNaN(f):
			return "NaN", true
		case math.IsInf(f, 1):
			return "Infinity", true
		case math.IsInf(f, -1):
			return "-Infinity", true
		default:
			return floatRepr(f), true
		}
	}
	return "", false
}

func (w *jsonWriter) newline(depth int) {
	if w.indent == nil {
		return
	}
	w.b.WriteByte('\n')
	w.r.spendTimes(len(*w.indent), depth)
	for i := 0; i < depth; i++ {
		w.b.WriteString(*w.indent)
	}
}

func (w *jsonWriter) array(items []Value, depth int) {
	if len(items) == 0 {
		w.b.WriteString("[]")
		return
	}
	w.b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			w.b.WriteString(w.itemSep)
		}
		w.charge()
		w.newline(depth + 1)
		w.value(item, depth+1)
	}
	w.newline(depth)
	w.b.WriteByte(']')
}

func (w *jsonWriter) object(d *dict, depth int) {
	if len(d.keys) == 0 {
		w.b.WriteString("{}")
		return
	}
	order := make([]int, len(d.keys))
	for i := range order {
		order[i] = i
	}
	if w.sorted {
		sort.SliceStable(order, func(i, j int) bool {
			w.r.step()
			return w.r.order("<", d.keys[order[i]], d.keys[order[j]], 0)
		})
	}
	w.b.WriteByte('{')
	for i, at := range order {
		if i > 0 {
			w.b.WriteString(w.itemSep)
		}
		w.charge()
		w.newline(depth + 1)
		key, ok := text(d.keys[at])
		if !ok {
			if key, ok = jsonScalar(d.keys[at]); !ok {
				raise(kindType, "keys must be str, int, float, bool or None, not %s", d.keys[at].typeName())
			}
		}
		w.str(key)
		w.b.WriteString(w.keySep)
		w.value(d.vals[at], depth+1)
	}
	w.newline(depth)
	w.b.WriteByte('}')
}

func (w *jsonWriter) str(s string) {
	w.b.WriteByte('"')
	start := 0
	for i := 0; i < len(s); {
		c, n := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			if !w.ascii {
				i++
				continue
			}
			c, n = utf8.DecodeRuneInString(s[i:])
		}
		if c >= ' ' && c != '"' && c != '\\' && (c < 0x7f || c == 0x7f && !w.ascii) {
			i++
			continue
		}
		w.b.WriteString(s[start:i])
		w.escape(c)
		i += n
		start = i
	}
	w.b.WriteString(s[start:])
	w.b.WriteByte('"')
}

func (w *jsonWriter) escape(c rune) {
	switch c {
	case '"', '\\':
		w.b.WriteByte('\\')
		w.b.WriteRune(c)
	case '\n':
		w.b.WriteString(`\n`)
	case '\r':
		w.b.WriteString(`\r`)
	case '\t':
		w.b.WriteString(`\t`)
	case '\b':
		w.b.WriteString(`\b`)
	case '\f':
		w.b.WriteString(`\f`)
	default:
		if hi, lo := utf16.EncodeRune(c); hi != utf8.RuneError {
			fmt.Fprintf(&w.b, `\u%04x\u%04x`, hi, lo)
		} else {
			fmt.Fprintf(&w.b, `\u%04x`, c)
		}
	}
}
