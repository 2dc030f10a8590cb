package chattemplate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// strftimeNow is datetime.now().strftime(format) in the C locale, as glibc formats it.
func strftimeNow(r *renderer, a []Value) Value {
	format, ok := text(a[0])
	if !ok {
		failIfUndefined(a[0])
		raise(kindType, "strftime() argument 1 must be str, not %s", a[0].typeName())
	}
	return str(r.strftime(format))
}

func (r *renderer) strftime(format string) string {
	var b strings.Builder
	for i := 0; i < len(format); {
		if format[i] != '%' {
			b.WriteByte(format[i])
			i++
			continue
		}
		out, n := r.timeField(format[i:])
		r.spend(len(out))
		b.WriteString(out)
		i += n
	}
	return b.String()
}

// timeField formats the field at the start of s and returns its length: a percent
// sign, flags (- no padding, _ spaces, 0 zeros, ^ upper case, # other case), a width,
// an E or O that the C locale ignores, and a letter.
func (r *renderer) timeField(s string) (string, int) {
	i, pad, upperCase, swapCase := 1, byte(0), false, false
	for ; i < len(s) && strings.IndexByte("-_0^#", s[i]) >= 0; i++ {
		switch s[i] {
		case '^':
			upperCase = true
		case '#':
			swapCase = true
		default:
			pad = s[i]
		}
	}
	rest := s[i:]
	width := takeNumber(&rest, 0)
	i = len(s) - len(rest)
	if i < len(s) && (s[i] == 'E' || s[i] == 'O') {
		i++
	}
	if i >= len(s) {
		return s, len(s)
	}
	r.spend(width)
	field, ok := r.timeLetter(s[i])
	if !ok {
		return s[:i+1], i + 1
	}
	out := field.text
	if field.digits > 0 {
		out = field.number(pad, width)
	} else if n := width - len(out); n > 0 {
		fill := " "
		if pad == '0' {
			fill = "0"
		}
		out = strings.Repeat(fill, n) + out
	}
	switch {
	case swapCase && (s[i] == 'p' || s[i] == 'Z'):
		out = strings.ToLower(out)
	case upperCase || swapCase && strings.IndexByte("aAbBh", s[i]) >= 0:
		out = strings.ToUpper(out)
	}
	return out, i + 1
}

// A timeField that is a number has a count of digits, and what fills it up.
type timeField struct {
	text   string
	value  int
	digits int
	fill   byte
}

func (f timeField) number(pad byte, width int) string {
	fill := f.fill
	switch pad {
	case '-':
		return strconv.Itoa(f.value)
	case '_':
		fill = ' '
	case '0':
		fill = '0'
	}
	s := strconv.Itoa(f.value)
	return strings.Repeat(string(fill), max(max(f.digits, width)-len(s), 0)) + s
}

func (r *renderer) timeLetter(c byte) (timeField, bool) {
	t := r.now
	words := func(layout string) (timeField, bool) { return timeField{text: t.Format(layout)}, true }
	number := func(v, digits int) (timeField, bool) { return timeField{value: v, digits: digits, fill: '0'}, true }
	spaced := func(v int) (timeField, bool) { return timeField{value: v, digits: 2, fill: ' '}, true }
	monday := (int(t.Weekday()) + 6) % 7
	hour12 := (t.Hour()+11)%12 + 1
	isoYear, isoWeek := t.ISOWeek()
	switch c {
	case 'a':
		return words("Mon")
	case 'A':
		return words("Monday")
	case 'b', 'h':
		return words("Jan")
	case 'B':
		return words("January")
	case 'c':
		return words("Mon Jan _2 15:04:05 2006")
	case 'C':
		return number(t.Year()/100, 2)
	case 'd':
		return number(t.Day(), 2)
	case 'D', 'x':
		return words("01/02/06")
	case 'e':
		return spaced(t.Day())
	case 'f':
		return timeField{text: fmt.Sprintf("%06d", t.Nanosecond()/int(time.Microsecond))}, true
	case 'F':
		return words("2006-01-02")
	case 'g':
		return number(isoYear%100, 2)
	case 'G':
		return number(isoYear, 4)
	case 'H':
		return number(t.Hour(), 2)
	case 'I':
		return number(hour12, 2)
	case 'j':
		return number(t.YearDay(), 3)
	case 'k':
		return spaced(t.Hour())
	case 'l':
		return spaced(hour12)
	case 'm':
		return number(int(t.Month()), 2)
	case 'M':
		return number(t.Minute(), 2)
	case 'n':
		return timeField{text: "\n"}, true
	case 'p':
		return words("PM")
	case 'P':
		return words("pm")
	case 'r':
		return words("03:04:05 PM")
	case 'R':
		return words("15:04")
	case 's':
		return timeField{text: strconv.FormatInt(t.Unix(), 10)}, true
	case 'S':
		return number(t.Second(), 2)
	case 't':
		return timeField{text: "\t"}, true
	case 'T', 'X':
		return words("15:04:05")
	case 'u':
		return number(monday+1, 1)
	case 'U':
		return number((t.YearDay()+6-int(t.Weekday()))/7, 2)
	case 'V':
		return number(isoWeek, 2)
	case 'w':
		return number(int(t.Weekday()), 1)
	case 'W':
		return number((t.YearDay()+6-monday)/7, 2)
	case 'y':
		return number(t.Year()%100, 2)
	case 'Y':
		return number(t.Year(), 1)
	case 'z', 'Z': // datetime.now() has no zone
		return timeField{}, true
	case '%':
		return timeField{text: "%"}, true
	}
	return timeField{}, false
}
