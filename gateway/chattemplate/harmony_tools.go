package chattemplate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// harmonyTools is the section that lists the functions, as TypeScript; "" if the
// request has none.
func harmonyTools(c Chat) string {
	tools, ok := field("tools", c.Tools).(*list)
	if !ok || len(tools.items) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# Tools\n\n## functions\n\nnamespace functions {\n")
	for i, item := range tools.items {
		fn := object(nth("tools", i)+".function", object(nth("tools", i), item).getStr("function"))
		name, ok := textField(nth("tools", i)+".function", fn, "name")
		if !ok {
			invalid(nth("tools", i)+".function.name", "is missing")
		}
		description, _ := textField(nth("tools", i)+".function", fn, "description")
		b.WriteByte('\n')
		for _, line := range lines(description) {
			b.WriteString("// " + line + "\n")
		}
		b.WriteString("type " + name + " = (")
		if parameters, ok := fn.getStr("parameters").(*dict); ok {
			b.WriteString("_: ")
			(&typeScript{&b}).schema(parameters, "")
		}
		b.WriteString(") => any;\n")
	}
	b.WriteString("\n} // namespace functions")
	return b.String()
}

// lines splits as Rust's str::lines.
func lines(s string) []string {
	if s == "" {
		return nil
	}
	out := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i := range out {
		out[i] = strings.TrimSuffix(out[i], "\r")
	}
	return out
}

// typeScript writes JSON schemas as the types that the model was trained to read.
type typeScript struct{ b *strings.Builder }

func (w *typeScript) write(parts ...string) {
	for _, p := range parts {
		w.b.WriteString(p)
	}
}

// schema writes the type of a value.
func (w *typeScript) schema(v Value, indent string) {
	s, ok := v.(*dict)
	if !ok {
		w.write("any")
		return
	}
	if variants, ok := s.getStr("oneOf").(*list); ok {
		w.variants(variants.items, indent)
		return
	}
	switch kind := s.getStr("type").(type) {
	case *list:
		if names := typeNames(kind.items); len(names) > 0 {
			w.write(strings.Join(names, " | "))
			return
		}
	case str:
		w.named(string(kind), s, indent)
		return
	}
	w.write("any")
}

func typeNames(items []Value) (names []string) {
	for _, item := range items {
		if name, ok := item.(str); ok {
			if name == "integer" {
				name = "number"
			}
			names = append(names, string(name))
		}
	}
	return names
}

func (w *typeScript) named(kind string, s *dict, indent string) {
	switch kind {
	case "object":
		w.object(s, indent)
	case "string":
		if values := enumTexts(s); len(values) > 0 {
			w.write(`"`, strings.Join(values, `" | "`), `"`)
			return
		}
		w.write("string")
	case "number", "integer":
		w.write("number")
	case "boolean":
		w.write("boolean")
	case "array":
		if items := s.getStr("items"); items != nil {
			w.schema(items, indent)
			w.write("[]")
			return
		}
		w.write("Array<any>")
	default:
		w.write("any")
	}
}

func enumTexts(s *dict) (texts []string) {
	if values, ok := s.getStr("enum").(*list); ok {
		for _, v := range values.items {
			if t, ok := v.(str); ok {
				texts = append(texts, string(t))
			}
		}
	}
	return texts
}

// variants writes a oneOf that is not a property's.
func (w *typeScript) variants(items []Value, indent string) {
	for _, v := range items {
		w.write("\n", indent, " | ")
		w.variant(v, indent+"   ", nil, compactJSON)
	}
}

// variant writes one type of several with its comments, but for a description that
// is known already. ofEnum shows a default of an enum.
func (w *typeScript) variant(v Value, indent string, known Value, ofEnum func(Value) string) {
	s, ok := v.(*dict)
	if !ok {
		s = &dict{}
	}
	w.nullable(s, indent)
	var comments []string
	if text, ok := s.getStr("description").(str); ok && text != known {
		comments = append(comments, string(text))
	}
	if value := s.getStr("default"); value != nil {
		comments = append(comments, "default: "+defaultText(s, value, ofEnum))
	}
	if len(comments) > 0 {
		w.write(" // ", strings.Join(comments, " "))
	}
}

// nullable writes a type that may be null as well.
func (w *typeScript) nullable(s *dict, indent string) {
	start := w.b.Len()
	w.schema(s, indent)
	if s.getStr("nullable") == boolean(true) && !strings.Contains(w.b.String()[start:], "null") {
		w.write(" | null")
	}
}

func (w *typeScript) object(s *dict, indent string) {
	if description, ok := s.getStr("description").(str); ok {
		w.write(indent, "// ", string(description), "\n")
	}
	w.write("{\n")
	required := map[string]bool{}
	if names, ok := s.getStr("required").(*list); ok {
		for _, name := range names.items {
			if n, ok := name.(str); ok {
				required[string(n)] = true
			}
		}
	}
	if properties, ok := s.getStr("properties").(*dict); ok {
		for i, key := range properties.keys {
			name := mustText(key)
			mark := "?"
			if required[name] {
				mark = ""
			}
			w.property(name+mark, properties.vals[i], indent)
		}
	}
	w.write(indent, "}")
}

// property writes one property with its comments.
func (w *typeScript) property(name string, v Value, indent string) {
	s, ok := v.(*dict)
	if !ok {
		s = &dict{}
	}
	if title, ok := s.getStr("title").(str); ok {
		w.write(indent, "// ", string(title), "\n", indent, "//\n")
	}
	description, hasDescription := s.getStr("description").(str)
	variants, oneOf := s.getStr("oneOf").(*list)
	if hasDescription && s.getStr("oneOf") == nil {
		w.write(indent, "// ", string(description), "\n")
	}
	if examples, ok := s.getStr("examples").(*list); ok && len(examples.items) > 0 {
		w.write(indent, "// Examples:\n")
		for _, e := range examples.items {
			if text, ok := e.(str); ok {
				w.write(indent, `// - "`, string(text), "\"\n")
			}
		}
	}
	if oneOf {
		w.choice(name, s, variants.items, indent)
		return
	}
	w.write(indent, name, ": ")
	w.nullable(s, indent+"    ")
	w.write(",")
	if value := s.getStr("default"); value != nil {
		w.write(" // default: ", defaultText(s, value, bare))
	}
	w.write("\n")
}

// choice writes a property that is one of several types.
func (w *typeScript) choice(name string, s *dict, variants []Value, indent string) {
	description := s.getStr("description")
	above := false
	if text, ok := description.(str); ok {
		if len(variants) == 0 || member(variants[0], "description") != description {
			w.write(indent, "// ", string(text), "\n")
			above = true
		}
	}
	if value := s.getStr("default"); value != nil {
		w.write(indent, "// default: ", defaultText(s, value, bare), "\n")
	}
	w.write(indent, name, ":\n")
	for i, v := range variants {
		w.write(indent, " | ")
		known := description
		if i == 0 && above {
			known = member(v, "description")
		}
		w.variant(v, indent+"   ", known, bare)
		w.write("\n")
	}
	w.write(indent, ",\n")
}

func member(v Value, name string) Value {
	if d, ok := v.(*dict); ok {
		return d.getStr(name)
	}
	return nil
}

// defaultText is a default as comments show it: text is quoted, unless it is of an
// enum.
func defaultText(s *dict, v Value, ofEnum func(Value) string) string {
	text, ok := v.(str)
	if !ok {
		return compactJSON(v)
	}
	if values, ok := s.getStr("enum").(*list); ok && len(values.items) > 0 {
		return ofEnum(v)
	}
	return `"` + string(text) + `"`
}

func bare(v Value) string { return string(v.(str)) }

// compactJSON is JSON as serde_json displays it.
func compactJSON(v Value) string {
	switch v := v.(type) {
	case *list:
		parts := make([]string, len(v.items))
		for i, item := range v.items {
			parts[i] = compactJSON(item)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *dict:
		parts := make([]string, len(v.keys))
		for i, key := range v.keys {
			parts[i] = compactJSON(key) + ":" + compactJSON(v.vals[i])
		}
		return "{" + strings.Join(parts, ",") + "}"
	case float:
		return serdeFloat(float64(v))
	case bigInt:
		if !v.v.IsUint64() {
			f, _ := new(big.Float).SetInt(v.v).Float64()
			return serdeFloat(f)
		}
	}
	return dumps(v)
}

// serdeFloat prints as serde_json does: the shortest digits, and an exponent below
// 1e-5 and from 1e16 on.
func serdeFloat(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		invalid("tools", "a number in them is too large")
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-5 || abs >= 1e16) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
