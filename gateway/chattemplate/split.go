package chattemplate

import (
	"strings"
	"unicode/utf8"
)

// sepOf is the separator of a split, nil for runs of whitespace.
func sepOf(v Value) *string {
	if v == nil || v == none {
		return nil
	}
	s, ok := text(v)
	if !ok {
		raise(kindType, "must be str or None, not %s", v.typeName())
	}
	if s == "" {
		raise(kindValue, "empty separator")
	}
	return &s
}

// splitLeft is s.split(sep, limit); a negative limit is none.
func splitLeft(r *renderer, s string, sep *string, limit int) []string {
	var out []string
	add := func(part string) {
		r.spend(itemCost)
		out = append(out, part)
	}
	if sep != nil {
		for limit != 0 {
			before, after, found := strings.Cut(s, *sep)
			if !found {
				break
			}
			add(before)
			s = after
			limit--
		}
		add(s)
		return out
	}
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		end := strings.IndexFunc(s, isSpace)
		if limit == 0 {
			add(s)
			break
		}
		if end < 0 {
			end = len(s)
		}
		add(s[:end])
		s = s[end:]
		limit--
	}
	return out
}

// splitRight is s.rsplit(sep, limit).
func splitRight(r *renderer, s string, sep *string, limit int) []string {
	if limit < 0 {
		return splitLeft(r, s, sep, limit)
	}
	var out []string
	add := func(part string) {
		r.spend(itemCost)
		out = append(out, part)
	}
	if sep != nil {
		for ; limit > 0; limit-- {
			i := strings.LastIndex(s, *sep)
			if i < 0 {
				break
			}
			add(s[i+len(*sep):])
			s = s[:i]
		}
		add(s)
	} else {
		for s = strings.TrimRightFunc(s, isSpace); s != ""; s = strings.TrimRightFunc(s, isSpace) {
			if limit == 0 {
				add(s)
				break
			}
			i := strings.LastIndexFunc(s, isSpace)
			begin := 0
			if i >= 0 {
				_, n := utf8.DecodeRuneInString(s[i:])
				begin = i + n
			}
			add(s[begin:])
			s = s[:begin]
			limit--
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// splitLines is s.splitlines(keep).
func splitLines(s string, keep bool) []string {
	var out []string
	for s != "" {
		end := strings.IndexFunc(s, isLineBreak)
		if end < 0 {
			return append(out, s)
		}
		_, n := utf8.DecodeRuneInString(s[end:])
		if strings.HasPrefix(s[end:], "\r\n") {
			n = 2
		}
		if keep {
			out = append(out, s[:end+n])
		} else {
			out = append(out, s[:end])
		}
		s = s[end+n:]
	}
	return out
}
