"""Writes golden.jsonl: small templates with what Python renders from them.

python3 golden.py > golden.jsonl, with jinja2==3.1.6 and the reference beside it.
"""
import json

from jinja_reference import render

CONTEXT = {
    "s": "Hello, World", "u": "Straße ﬁx Ǆungla Σίσυφος ΌΣΟΣ naïve ½²", "ws": " \t\n x y \u2003\x1c", "empty": "",
    "n": 42, "neg": -7, "big": 123456789012345678901234567890, "f": 3.14159, "whole": 2.0, "e16": 1e16, "tiny": 1e-7,
    "t": True, "no": False, "none_": None,
    "l": [3, 1, 2], "mixed": [1, "a", None, True, 2.5, {"k": [1]}], "strs": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": {"x": [1, 2.0, None]}, "c": "é\"'\n<&>"}, "intkeys": {"1": "one"},
    "users": [
        {"name": "Zed", "age": 30, "tags": ["x", "y"], "addr": {"city": "Rome"}},
        {"name": "amy", "age": 25, "tags": [], "addr": {"city": "Oslo"}},
        {"name": "Bob", "age": 30, "tags": ["z"]},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"},
        {"role": "assistant", "content": "Yes", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    ],
    "html": "<p>Hello <b>you</b> &amp; <!-- no -->me</p>", "lines": "one\ntwo\r\nthree\x0bfour\n\nfive",
    "long": "The quick-brown fox jumps over the lazy-dog -- and then some more words follow, unbreakable" + "x" * 30,
    "emoji": "a😀b👩‍👩‍👧c",
}

# One expression or template a line; {{ }} is added where there is no brace.
EXPRESSIONS = r"""
1 + 1
1 + 2.0
7 / 2
6 / 2
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** 100
2 ** -1
2 ** 0.5
-2 ** 2
(-2) ** 2
2 ** 3 ** 2
(-8) ** 3
0 ** 0
1 / 0
1 // 0
1 % 0
1.0 / 0
0.1 + 0.2
1e16
1e15
123456789012345680.0
1e22
1e-4
1e-5
1.5e300 * 1e10
5e-324
-0.0
0.0 == -0.0
1 == 1.0
1 == true
true + true
true * 3
-true
+true
9007199254740993 == 9007199254740992.0
9007199254740993 / 3
big + 1
big * big
big // 7
big % 1000
-big % 1000
big / 3
big == big
big > n
big < 1e40
9223372036854775807 + 1
-9223372036854775808 - 1
9223372036854775807 * 2
-9223372036854775808 // -1
3037000500 * 3037000500
n - 50
'a' + 'b'
'a' * 3
3 * 'a'
'a' * -1
[1] * 3
[1] + [2]
(1,) + (2, 3)
'a' + 1
1 + 'a'
none_ + 1
[1] + (2,)
s - 1
'%s and %d' % ('x', 3)
'%5d|%-5d|%05d|%+d|% d' % (42, 42, 42, 42, 42)
'%x %X %o %#x %#o' % (255, 255, 8, 255, 8)
'%e %E %.3e %g %G %.10g' % (12345.678, 0.00012, 1.0, 1e10, 1e-10, 1/3)
'%f %.2f %10.3f|%-10.1f|%010.2f' % (1.5, 2.345, 3.14159, 2.5, -1.5)
'%r %s %a' % ('é', 'é', 'é')
'%(a)s-%(b)05.1f' % {'a': 1, 'b': 2.25}
'%c%c' % (65, 'b')
'%%' % ()
'%s' % [1, 2]
'a' % missing
'a%s' % missing
'%s' % none_
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%d' % 'x'
'%d' % 3.99
'%i' % true
'%*d|%-*d' % (5, 1, 5, 2)
'%.*f' % (2, 3.14159)
'%.3s|%10.2s|' % ('abcdef', 'xyz')
'%y' % 1
'%' % 1
'%(a)s' % {'b': 1}
1 < 2 < 3
1 < 3 < 2
1 == 1 != 2
'a' < 'b'
'Z' < 'a'
'é' > 'z'
[1, 2] < [1, 3]
[1, 2] < [1, 2, 0]
(1, 'a') < (1, 'b')
1 < 'a'
none_ < 1
1 < 2.5
n in l
3 in l
'x' in s
'World' in s
'' in s
1 in s
'b' in d
'zz' not in d
2 not in [1, 2]
none_ in [none_]
1 in none_
(1, 2) in [(1, 2)]
3 in range(5)
not true
not none_
not undef
1 and 2
0 or 'x'
'' and 1
none_ or undef or 3
1 if true else 2
1 if false
(1 if false) is defined
'a' ~ 1 ~ none_ ~ 2.0 ~ true
1 ~ 2 + 3
undef ~ 'x'
undef
undef.x
undef['x']
undef + 1
1 + undef
-undef
undef == undef2
undef == 1
undef is defined
undef|length
undef|list
undef|default('d')
undef in [1]
1 in undef
undef in s
undef in d
undef < 1
1 < undef
undef()
undef|tojson
undef|int
undef|upper
undef|join('-')
undef|first
undef[1:2]
undef|items|list
undef|string|length
d.missing
d.missing.more
d['missing'] is undefined
none_.x
none_.x.y
none_[0]
none_[0] is defined
n.x
n.real
n.numerator
n.bit_length()
n.imag
whole.is_integer()
f.real
l.x
l[0]
l[-1]
l[5]
l[5] is defined
l['x']
l[1.0]
l[true]
l.0
s[0]
s[-1]
s[100]
u[2]
emoji[1]
emoji[-1]
emoji[2:]
emoji|length
emoji|reverse
d['a']['x'][1]
d.a.x
d.items()
d.keys()
d.values()
d.items()|list
d.keys()|list
d.get('b')
d.get('q')
d.get('q', 'def')
d.get('q', default='def')
d.copy()
d.items
d.update
d.update({'x': 1})
d.pop('b')
d['pop']
d['items']()|list
l.append(1)
l.append
l.append is defined
l.sort()
l.copy()
l.count(3)
l.index(2)
l.index(9)
(1, 2, 1).count(1)
(1, 2, 1).index(2)
s.__class__
s.__class__.__name__
s.__class__ is defined
s.__nothing__
d.__class__
d._private
n.__add__
''.__class__.__mro__
s|attr('upper')
s|attr('__class__')
s|attr('nope')
d|attr('b')
d|attr('items')
l[::-1]
l[1:]
l[:-1]
l[::2]
l[5:]
l[-2:]
l[1:2:0]
l['a':]
l[none_:2]
l[undef:]
s[1:4]
s[::-1]
s[::3]
s[-5:-1]
s[4:1:-1]
s[100:]
s[:100]
s[-100:3]
u[3:9]
u[::-2]
(1,2,3)[1:]
range(10)[2:8:2]|list
range(10)[3]
range(10)[-1]
d[1:2]
none_[1:]
n[1:]
range(5)
range(1, 10, 3)
range(5)|list
range(5, 0, -2)|list
range(0)|list
range(1, 5)|length
range(100001)
range(10, 5)|list
range('a')
range()
range(3.0)
[1, 2, ]
[]
()
(1,)
(1, 2)
1, 2
{}
{'a': 1, 'b': [1, {'c': none_}]}
{1: 'x', 1.0: 'y', true: 'z'}
{'a': 1, 'a': 2}
{(1, 2): 3}[(1, 2)]
{[1]: 2}
{none_: 1, 2.5: 3}
dict(a=1, b=2)
dict({'x': 1}, y=2)
dict([('a', 1), ('b', 2)])
dict([1])
mixed
users
'it\'s'
"say \"hi\" 'x'"
['it\'s', "a\"b", 'a\'b"c', 'tab\t', 'nl\n', '\x00\x7f\xa0\xad', 'é', '\u2028', '😀', '\\']
'a' 'b' 'c'
'\n\t\\\'\"\a\b\f\v\x41\u00e9\U0001F600\101\q'
'\é'
'\0'
"\
"
1_000
0x1F
0b101
0o17
1_0.5
1e3
1.5E-3
.5
1.
true, True, false, False, none, None
s.upper()
s.lower()
u.upper()
u.lower()
u.title()
u.capitalize()
u.swapcase()
u.casefold()
'ǆ ﬃ ŉ ΐ İ'.title()
'ß ŉ'.upper()
'İI'.lower()
'ΑΣ ΑΣ. Σ ΑΣΑ'.lower()
"they're bill's friends".title()
'hELLO wORLD'.capitalize()
s.swapcase()
'x'.center(7) ~ '|'
'x'.center(8) ~ '|'
'xx'.center(7, '*')
'x'.ljust(4, '.') ~ 'x'.rjust(4, '.')
'é'.rjust(3, 'ü')
'x'.center(3, 'ab')
'42'.zfill(5) ~ ' ' ~ '-42'.zfill(5) ~ ' ' ~ '+1'.zfill(1)
ws.strip()|tojson
ws.lstrip()|tojson
ws.rstrip()|tojson
'xxhixx'.strip('x')
'abcba'.strip('ab')
'abc'.strip('')
'abc'.strip(none_)
'abc'.strip(1)
'  a  b '.split()
'a,b,,c'.split(',')
'a,b,c'.split(',', 1)
'a b  c '.split(none_, 1)
' a b c '.split(maxsplit=1)
'a--b--c'.split('--')
'abc'.split('')
''.split()
''.split(',')
'a b c'.rsplit(' ', 1)
' a b  c '.rsplit(none_, 1)
' a b '.rsplit(none_, 0)
' a b '.split(none_, 0)
'a,b,c'.rsplit(',')
lines.splitlines()
lines.splitlines(true)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
s.startswith('Hello')
s.startswith(('x', 'H'))
s.startswith('World', 7)
s.startswith('H', 0, 0)
s.startswith('', 50)
s.endswith('World')
s.endswith('Hello', 0, 5)
s.endswith(['x'])
s.startswith(1)
s.replace('l', 'L')
s.replace('l', 'L', 1)
s.replace('', '-')
''.replace('', 'x')
s.replace('o', '', -1)
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('W')
s.index('zz')
u.find('f')
s.count('l')
s.count('')
'aaaa'.count('aa')
s.count('l', 4)
', '.join(['a', 'b'])
', '.join([1, 2])
'-'.join('abc')
'-'.join({'x': 1, 'y': 2})
'x'.join([])
'prefix-x'.removeprefix('prefix-')
'x.txt'.removesuffix('.txt')
'a\tb\tc'.expandtabs(4)
'ab\tc\n\td'.expandtabs()
'123'.isdigit() ~ '²'.isdigit() ~ '½'.isdigit() ~ ''.isdigit()
'123'.isdecimal() ~ '²'.isdecimal()
'½²三'.isnumeric()
'abc'.isalpha() ~ 'ab1'.isalpha()
'ab1'.isalnum() ~ 'a b'.isalnum()
'abc'.islower() ~ 'aBc'.islower() ~ '1'.islower() ~ 'ªb'.islower()
'ABC'.isupper() ~ 'A1'.isupper()
' \t\x1c'.isspace() ~ ''.isspace()
'Hello World'.istitle() ~ 'Hello world'.istitle()
'abc'.isascii() ~ 'é'.isascii() ~ ''.isascii()
'a_1'.isidentifier() ~ '1a'.isidentifier()
'a\n'.isprintable() ~ 'a é'.isprintable() ~ ''.isprintable()
'a'.nope()
'a'.upper(1)
'{} {}'.format('a', 1)
'{0} {1} {0}'.format('a', 'b')
'{x} {y[0]} {z.k}'.format(x=1, y=[7], z={'k': 'v'})
'{:>8}|{:<8}|{:^8}|{:*^9}'.format('a', 'b', 'c', 'd')
'{:05d} {:+} {: } {:,} {:_}'.format(42, 42, 42, 1234567, 1234567)
'{:x} {:X} {:#x} {:o} {:b} {:#b} {:c}'.format(255, 255, 255, 8, 5, 5, 65)
'{:.2f} {:10.3f}| {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 12345.0, 0.0001, 0.25, 0.125)
'{:.3} {:.10} {} {:g} {:n}'.format(3.14159, 2.0, 1e20, 1e20, 5)
'{:,.2f} {:012,.2f} {:012,d}'.format(1234567.891, 1234.5, 1234567)
'{!r} {!s} {!a}'.format('é', 'é', 'é')
'{:{}} {:{w}}|'.format('a', 5, 'b', w=3)
'{{}} {}'.format(1)
'{'.format(1)
'}'.format(1)
'{} {0}'.format(1)
'{5}'.format(1)
'{x}'.format(1)
'{:d}'.format('a')
'{:s}'.format(1)
'{:.2}'.format('abc')
'{:>{w}}'.format('x', w=6)
'{0.__class__}'.format(1)
'{0[a]}'.format({'a': 5})
'{a}'.format_map({'a': 9})
'{:=+8d}|{:08.2f}|{:<08d}'.format(42, -3.14159, 42)
'{}'.format(true) ~ '{:d}'.format(true) ~ '{}'.format(none_)
'{:5}|'.format(none_)
'{:5}|{:<5}|{:5}|'.format(1, 1, 'a')
'{:z}'.format(1.0)
'{:.0f} {:.0f} {:.0f}'.format(0.5, 1.5, 2.5)
'{:e}'.format(0) ~ '{:g}'.format(100000) ~ ' {:g}'.format(1000000) ~ ' {:#g}'.format(1.0)
'{:G} {:E} {:F}'.format(1e-10, 1.5, 1.5)
'{:.3g} {:.3} {:.1}'.format(1234.5, 1234.5, 5.0)
s.encode
s.format
l|sort
strs|sort
strs|sort(case_sensitive=true)
strs|sort(reverse=true)
users|sort(attribute='name')|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
users|sort(attribute='age', reverse=true)|map(attribute='name')|join(',')
mixed|sort
d|dictsort
d|dictsort(reverse=true)
{'b': 1, 'A': 2}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value')
{'b': 1}|dictsort(by='x')
users|map(attribute='name')|list
users|map(attribute='addr.city')|list
users|map(attribute='addr.city', default='-')|list
users|map(attribute='tags.0')|list
users|map(attribute='tags.0', default='none')|list
strs|map('upper')|join
strs|map('replace', 'a', 'X')|list
strs|map('nope')|list
strs|map|list
strs|map(attribute='x', q=1)|list
l|select('odd')|list
l|select|list
[0, 1, '', 'a', none_]|select|list
[0, 1, '', 'a', none_]|reject|list
l|select('>', 1)|list
l|reject('equalto', 3)|list
l|select('divisibleby', 3)|list
l|select('nope')|list
users|selectattr('age', 'eq', 30)|map(attribute='name')|list
users|selectattr('addr')|map(attribute='name')|list
users|rejectattr('tags')|map(attribute='name')|list
users|selectattr('addr.city', 'defined')|list|length
users|selectattr('name', 'in', ['amy'])|list
users|selectattr|list
l|select('odd')
l|select('odd')|length
l|select('odd')|first
l|map('string')|tojson
strs|unique|list
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
users|unique(attribute='age')|map(attribute='name')|list
users|groupby('age')
users|groupby('age')|map(attribute='grouper')|list
users|groupby('addr.city', default='none')|map('first')|list
['b', 'A', 'a', 'B']|map('upper')|list|groupby(0)
l|min
l|max
strs|min
strs|max
[]|min
users|max(attribute='age')
strs|min(case_sensitive=true)
mixed|max
l|sum
l|sum(start=10)
users|sum(attribute='age')
['a', 'b']|sum
[[1], [2]]|sum(start=[])
l|first
l|last
[]|first
[]|last
[]|first is defined
s|first
s|last
d|first
range(3)|last
(l|map('string'))|last
l|length
d|length
s|count
n|length
none_|length
l|join
l|join(', ')
l|join(1)
users|join(',', attribute='name')
d|join('-')
n|join
l|reverse|list
s|reverse
d|reverse|list
n|reverse
l|list
s|list
d|list
n|list
none_|list
l|batch(2)|list
l|batch(2, 'x')|list
range(7)|slice(3)|list
range(7)|slice(3, '-')|list
l|slice(0)|list
l|slice(5)|list
s|upper
s|lower
s|title
"foo-bar (baz) [qux] it's x<y {z".title()
"foo-bar (baz) [qux] it's x<y {z"|title
'ßx ŉ'|title
s|capitalize
n|upper
none_|upper
ws|trim|tojson
'xxaxx'|trim('x')
n|trim
s|replace('l', 'L')
s|replace('l', 'L', 1)
n|replace(4, 'x')
s|replace('o', none_)
'%s-%s'|format('a', 1)
'%(x)s'|format(x=1)
'%s'|format('a', x=1)
s|center(20) ~ '|'
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent('> ', true, true)
lines|indent(width=1, blank=true)
n|indent
''|indent(2, true)
'a\n'|indent(2)
long|truncate(20)
long|truncate(20, true)
long|truncate(20, false, '…')
long|truncate(20, leeway=0)
'short'|truncate(4)
'short'|truncate(4, leeway=0)
'short'|truncate(2)
long|wordcount
u|wordcount
long|wordwrap(20)
long|wordwrap(20, false)
long|wordwrap(10, true, '|')
long|wordwrap(20, break_on_hyphens=false)
'a b\n\nc d e f'|wordwrap(3)
html|striptags
html|escape
html|e|e
html|forceescape
html|safe
html|safe|escape
html|escape ~ '<'
html|safe + '<'
'<' + html|safe
html|escape|upper
(html|safe) % ()
('%s' |safe) % '<'
('<{}>'|safe).format('<')
(html|safe).split(' ')
(html|safe)|length
('<'|safe) * 2
('a'|safe)|tojson
['a'|safe]
('<'|safe).join(['<', '>'])
'a'|safe is escaped
'a' is escaped
'a b&c/d?é'|urlencode
{'a b': 'c/d', 'x': 1}|urlencode
[('a', 1), ('b', '&')]|urlencode
n|urlencode
{'a': 1, 'b': none_, 'c': '<"'}|xmlattr
{'a': 1}|xmlattr(false)
{'a b': 1}|xmlattr
n|abs ~ neg|abs ~ f|abs ~ big|abs
s|abs
'42'|int
'42.9'|int
'x'|int
'x'|int(7)
'0x1f'|int(base=16)
'1f'|int(0, 16)
'101'|int(base=2)
' 12_3 '|int
'-5'|int
'٣'|int
'1e3'|int
f|int
none_|int
none_|int(default=5)
true|int
'inf'|int
'nan'|int
1e20|int
l|int
'3.5'|float
'x'|float
'x'|float(1.5)
' 1_0.5e1 '|float
'inf'|float
'-Infinity'|float
'nan'|float
n|float
none_|float
big|float
2.5|round
3.5|round
2.675|round(2)
42.55|round(1)
-0.5|round
1234.5|round(-2)
1250|round(-2)
1350|round(-2)
15|round
42.1|round(0, 'ceil')
42.19|round(1, 'floor')
42|round(1, 'ceil')
42.5|round(1, 'x')
's'|round
0.1|round(20)
1|filesizeformat
1000|filesizeformat
1234567|filesizeformat
1234567|filesizeformat(true)
0|filesizeformat
123456789012345678|filesizeformat
s|string
n|string
none_|string
d|tojson
d|tojson(indent=2)
d|tojson(indent=0)
d|tojson(true)
d|tojson(ensure_ascii=true, sort_keys=true)
d|tojson(separators=(',', ':'))
d|tojson(indent=1, separators=(', ', ' : '))
d|tojson(indent='--')
d|tojson(indent=true)
d|tojson(4)
d|tojson(4, 2)
[]|tojson(indent=2) ~ {}|tojson(indent=2) ~ [[]]|tojson(indent=2)
mixed|tojson
(1, 2)|tojson
{1: 2, none_: 3, true: 4, 2.5: 5}|tojson
{(1, 2): 3}|tojson
{'b': 1, 'a': 2, 'C': 3}|tojson(sort_keys=true)
{'b': 1, 1: 2}|tojson(sort_keys=true)
[1e16, 1e-7, 1.0, 0.1, 1e22, big, -0.0]|tojson
'nan'|float|tojson ~ 'inf'|float|tojson ~ '-inf'|float|tojson
'\x00\x1f\x7f\u2028é😀/\\"'|tojson
'\x00\x1f\x7f\u2028é😀/\\"'|tojson(ensure_ascii=true)
range(3)|tojson
d.items()|tojson
namespace(a=1)|tojson
s.upper|tojson
d|items|list
d|items
n|items|list
{}|items|list
n is odd
n is even
3 is odd
n is divisibleby 7
n is divisibleby(5)
f is odd
s is odd
n is defined
n is number
t is number
t is integer
n is integer
big is integer
f is float
n is float
s is string
n is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
n is sequence
(l|map('string')) is sequence
l is iterable
s is iterable
n is iterable
none_ is iterable
(l|map('string')) is iterable
none_ is none
undef is none
t is true
no is false
1 is true
t is boolean
n is boolean
none_ is boolean
range is callable
s.upper is callable
s is callable
undef is callable
n is sameas 42
none_ is sameas none
t is sameas true
s is lower
s|lower is lower
s is upper
n is upper
3 is in l
3 is in([3])
'x' is in 'xyz'
n is eq 42
n is equalto(42)
n is ne 1
n is lt 50
n is gt 50
n is ge 42
n is le 41
n is greaterthan 1
n is lessthan 1
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
n is not none
not n is none
n is not defined or true
n is nope
n|nope
n|upper|nope if false else 1
1 if true else n|nope
undef is not defined and 1
s is string and s|length > 3
joiner
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%a %A %b %B %d %e %j %U %W %V %G %g %u %w %y %C %I %p %P %l %k %-d %-m %-I %_d %05d %^a %#b %#p')
strftime_now('%c|%x|%X|%D|%F|%T|%R|%r|%h|%n|%t|%z|%Z|%%|%f|%Ey|%Od')
strftime_now('%d %B %Y')
strftime_now(1)
strftime_now('')
strftime_now('é%Yü')
raise_exception('stop ' ~ n)
raise_exception()
n()
s.upper()()
l|length()
dict(a=1, a=2)
(1, 2)|first
[[1, 2], [3]]|map('first')|list
'a' if undef else 'b'
[1, 2, 3][1:][0]
(l|sort)[0]
{'a': {'b': {'c': 1}}}.a.b.c
users[0].name ~ users[-1]['name']
users[0]['addr'].city
n|string ~ 'x'
'a' ~ 'b'|upper
-n|abs
(-n)|abs
2 * 3 ~ 4
not 1 == 2
1 + 2 * 3 - 4 / 2
10 - 3 - 2
2 ** -2
'x' is string is true
[n, s][0]
[1,2,3]|sum / [1,2,3]|length
'\u00e9' == 'é'
'abc'[1]
'a.b.c'.split('.')[-1]
"{{ not a tag }}"
'}}'
"a" "b" ~ 'c'
{"a": [1, (2, 3)], "b": {"c": {}}}
{'x': 1}['x']
{'x': 1}.x
l|map('float')|list
l|map('string')|join('|')
l|batch(2)|map('sum')|list
""" .strip().split("\n")

TEMPLATES = [
    # whitespace control and trimming
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a {%- if true -%} b {%- endif -%} c", "  {%+ if true %}x{% endif %}",
    "a\n{{ 1 }}\nb\n\n", "a\r\nb\rc\n", "{# c #}\nx", "x{# a\nb #}y", "  {# c #}  \nx", "  {#- c -#}  \nx", "x\n  {#+ c +#}\ny",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "a {%- raw -%} b {%- endraw -%} c", "  {% raw %}\n x\n  {% endraw %}\ny",
    "{{- 1 -}}  x  {{ 2 }}", "x  {{- 1 }}\n  {{ 2 -}}  \n y", "{%- set x = 1 -%}\n\n{{ x }}", "\n\n{% if 1 %}\n\nx{% endif %}\n\n",
    "{% if 1 +%}\nx{% endif %}", "\t{% if 1 %}\n\tx\n\t{% endif %}", "a{% if 1 %}\nb{% endif %}\n\nc", "{{ '}}' }}", "{{ {'a': {}} }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}", "{%if 1%}x{%endif%}", "{{1}}{{-2}}", "{{ 1 }}\n", "{{ 1 }}\n\n", "\n", "", "x\u2028\n  {% set a=1 %}\ny",
    "a\x1c  {%- set x=1 %}b", "{% set x = 1 %}\n{% set y = 2 %}\n{{ x + y }}", "{{ '''a''' }}", "x {%- if false %} y {% endif -%} z",
    # set, scopes
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}",
    "{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}", "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}", "{% set a, b = 1 %}", "{% set a, b = [1,2,3] %}", "{% set a, b = [1] %}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x is string }}", "{% set x | upper | replace('A', 'z') %}a{{ n }}b{% endset %}{{ x }}", "{% set n.x = 1 %}", "{% set q.x = 1 %}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}{{ ns.c is defined }}",
    "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}", "{% set ns = namespace(_x=1) %}{{ ns._x }}", "{% set ns = namespace(x=1) %}{{ ns.items }}{% set ns.items = 3 %}{{ ns.items }}",
    "{% if false %}{% set z = 1 %}{% endif %}{{ z }}{{ z is defined }}", "{% if true %}{% set n = 1 %}{% endif %}{{ n }}", "{% if false %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 5 %}{{ m() }}", "{% macro m() %}{{ zz }}{% endmacro %}{{ m() }}{% set zz = 5 %}{{ m() }}",
    "{{ n }}{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 5 %}{{ m() }}", "{% set n = n + 1 %}{{ n }}", "{% for n in l %}{{ n }}{% endfor %}{{ n }}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set n = 3 %}{{ n }}{% endwith %}{{ a }}{{ n }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% with a=1, b=a %}{{ b }}{% endwith %}",
    "{% with (a, b) = (1, 2) %}{{ a + b }}{% endwith %}", "{% set true = 1 %}", "{% set x = %}", "{% set 1 = 2 %}", "{% set x.y.z = 1 %}", "{% if n %}{% set k = 1 %}{% elif s %}{% set k = 2 %}{% else %}{% set k = 3 %}{% endif %}{{ k }}",
    "{% if no %}{% set k = 1 %}{% elif none_ %}{% set k = 2 %}{% else %}{% set k = 3 %}{% endif %}{{ k }}", "{% if no %}a{% elif no %}b{% endif %}c", "{% set loop = 1 %}{{ loop }}", "{% for i in l %}{% set loop = 1 %}{% endfor %}",
    "{% filter upper %}a{{ s }}{% set q = 2 %}{% endfilter %}{{ q }}", "{% filter replace('a', 'b')|upper %}banana{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter nope %}x{% endfilter %}",
    "{% print 1, s %}", "{% set x = 1 if no %}{{ x is defined }}", "{% set x = [] %}{% set _ = x.append(1) %}", "{% do x %}", "{% set x = messages|map(attribute='role')|list %}{{ x }}",
    # loops
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}-{{ loop.nextitem }};{% endfor %}", "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in l %}{{ loop }}{% endfor %}", "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{{ loop.last }}{% endfor %}", "{% for i in l if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in [] %}x{% else %}e{% endfor %}", "{% for i in undef %}x{% else %}e{% endfor %}", "{% for i in none_ %}x{% endfor %}", "{% for i in n %}x{% endfor %}", "{% for c in 'aé😀' %}{{ c }},{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}{{ loop.last }}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in l %}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% break %}{% else %}E{% endfor %}", "{% for i in l %}{% continue %}{% else %}E{% endfor %}",
    "{% for i in [1,2] %}{% if i == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}", "{% break %}", "{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for i in l %}{% set x %}{% break %}{% endset %}{% endfor %}ok", "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for i in l recursive %}{{ i }}{% endfor %}",
    "{% for x in [[1,[2,3]],[4]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{{ loop.depth0 }}{% endif %}{% endfor %}", "{% for i in l %}{{ loop(l) }}{% endfor %}", "{% for i in l|map('string') %}{{ i }}{{ loop.length }}{% endfor %}",
    "{% for i in l|select('odd') %}{{ loop.revindex }}{% endfor %}", "{% set ns = namespace(a=1) %}{% for i in [1,2,3] if i > ns.a %}{{ i }}{% set ns.a = 2 %}{% endfor %}", "{% for i in l %}{{ undefd }}{% endfor %}", "{% for i in l if loop.index %}{% endfor %}",
    "{% for i in l %}{% for j in l if loop.index > 1 %}{{ j }}{% endfor %};{% endfor %}", "{% for i in l if i is odd and n %}{{ i }}{% endfor %}", "{% for [a, b] in [] %}{% endfor %}", "{% for i in 1, 2 %}{{ i }}{% endfor %}", "{% for i in (1, 2) if i %}{{ i }}{% endfor %}",
    "{% for i in l %}{{ loop.nope }}{{ loop.nope is defined }}{% endfor %}", "{{ loop }}", "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for i in l[::-1] %}{{ i }}{% endfor %}", "{% for i in users|sort(attribute='name') %}{{ i.name }}{% endfor %}",
    "{% for i in range(3) -%}\n {{ i }}\n{%- endfor %}", "{% for i in [1,2,3] %}{{ loop.length }}{{ loop.index }}{% if loop.index == 2 %}{% set x = loop.last %}{{ x }}{% endif %}{% endfor %}", "{% for a, b in [[1,2],[3,4]] if a > 1 %}{{ loop.previtem }}{{ b }}{% endfor %}",
    # macros
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a, *b) %}{% endmacro %}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(5) }}", "{% macro m(a=b, b=2) %}{{ a }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}",
    "{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y }}", "{% macro m(n) %}{% if n %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}", "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}", "{% macro m(a) %}[{{ caller() }}]{% endmacro %}{% call m(1) %}in{% endcall %}",
    "{% macro m(items) %}{% for i in items %}{{ caller(i, x=1) }}{% endfor %}{% endmacro %}{% call(i, x) m(l) %}<{{ i }}{{ x }}>{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{{ m }}{% macro m(a, b) %}{% endmacro %}{{ m }}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}", "{% macro m() %}a{% endmacro %}{{ m()|upper }}{{ m() ~ 'b' }}{{ m() is string }}", "{% macro m(x) %}{{ x }}{% endmacro %}{% set f = m %}{{ f(3) }}", "{% if true %}{% macro m() %}z{% endmacro %}{% endif %}{{ m() }}",
    "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro a(x) %}{% macro b(y) %}{{ x }}{{ y }}{% endmacro %}{{ b(2) }}{% endmacro %}{{ a(1) }}", "{% macro m(a, a2=1, b) %}{% endmacro %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}{{ m(*l) }}", "{{ dict(**d).b }}{{ range(*[1, 3])|list }}", "{% macro m(x) %}  {{ x }}\n{% endmacro %}{{ m(1) }}|", "{% macro m(caller) %}{{ caller }}{% endmacro %}{{ m(1) }}", "{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1) }}", "{% macro m(caller=3) %}{{ caller }}{% endmacro %}{{ m() }}{{ m(4) }}",
    "{% call dict() %}x{% endcall %}", "{% call n %}x{% endcall %}", "{% macro outer() %}{% call inner() %}{{ caller is defined }}{% endcall %}{% endmacro %}{% macro inner() %}[{{ caller() }}]{% endmacro %}{{ outer() }}", "{% macro m(tools) %}{{ tools|tojson }}{% endmacro %}{{ m(d) }}",
    # generation, blocks and what has no loader
    "{% generation %}a{{ n }}{% set q = 1 %}{% endgeneration %}{{ q }}", "{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}", "a{% generation %}\n b \n{% endgeneration %}\nc", "{% block b %}{{ n }}{% endblock %}", "{% set q = 1 %}{% block b %}{{ q }}{% set r = 2 %}{% endblock %}{{ r }}",
    "{% for i in l %}{% block b scoped %}{{ i }}{% endblock %}{% endfor %}", "{% for i in l %}{% block b %}{{ i }}{% endblock %}{% endfor %}", "{% block b %}{% endblock %}{% block b %}{% endblock %}", "{% block b %}x{% endblock b %}", "{% include 'x' %}", "{% if no %}{% include 'x' %}{% endif %}ok", "{% import 'x' as y %}", "{% from 'x' import y as z, w with context %}", "{% extends 'x' %}",
    # globals
    "{% set j = joiner() %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}", "{{ cycler() }}", "{{ namespace }}" if False else "{{ namespace(1) }}",
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{{ m.role }}{% endfor %}",
    "{% for m in messages %}{% if m.tool_calls is defined %}{% for t in m.tool_calls %}{{ t.function.name }}{{ t.function.arguments|tojson }}{% endfor %}{% endif %}{% endfor %}", "{{ messages|tojson(indent=4) }}", "{{ messages[-1]['tool_calls'][0]['function'] }}", "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{{ (messages|last).role }}{{ messages|map(attribute='role')|join(',') }}", "{% set m = messages|selectattr('role', 'eq', 'nope')|list %}{{ m[0].x if m else 'none' }}", "{{ messages|rejectattr('role', 'in', ['user', 'system'])|map(attribute='content')|list }}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = l|reverse %}{{ g|list }}{{ g|list }}",
    # syntax errors
    "{{ }}", "{{ 1", "{% if %}", "{% if 1 %}", "{% endif %}", "{% for %}", "{% for x in %}{% endfor %}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 1) }}", "{# open", "{% raw %}", "{{ 'a }}", "{{ a b }}", "{{ a.1b }}", "{{ a. }}", "{{ a[] }}", "{{ $ }}", "{{ a ! b }}", "{% unknown %}", "{% macro %}{% endmacro %}", "{% set %}", "{{ a | }}", "{{ a is }}",
    "{{ f(a=1, 2) }}", "{{ f(**a, *b) }}", "{{ f(,) }}", "{{ [,] }}", "{{ {1} }}", "{{ {1:} }}", "{% if 1 %}{% else %}{% elif 1 %}{% endif %}", "{% for a in b %}{% endif %}", "{{ 1 if }}", "{{ not }}", "{{ a is b is c }}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{{ 08 }}", "{{ 1__0 }}", "{% for true in l %}{% endfor %}", "{% macro m(1) %}{% endmacro %}", "{% filter %}x{% endfilter %}", "{% call m %}{% endcall %}", "{{ x.__class__ }}", "%}", "}}", "{ {", "{%%}", "{{{}}}", "{{ {} }}", "{{ a if b else }}",
    "{% autoescape false %}{% endautoescape %}" if False else "{{ 1 }}", "{{ 1;2 }}", "{{ a := 1 }}", "{{ lambda x: x }}", "{{ s.upper }}" if False else "{{ s.upper() }}", "{{ ..a }}", "{{ a..b }}", "{{ 5.upper() }}", "{{ 5 .real }}", "{{ 1.real }}", "{{ 1.5.real }}", "{{ l.0.real }}", "{{ d.a.x.1 }}",
    "{% if n is divisibleby 7 and s is string %}y{% endif %}", "{% if not n is none and l %}y{% endif %}", "{% if (n > 1) and not (s == '') %}y{% endif %}", "{{ n if n is defined else 'x' }}", "{{ 'a' in s and 'b' not in s }}", "{{ d['a']['x'] | length > 2 }}", "{{ l | length == 3 and 'y' or 'n' }}", "{{ 'yes' if l | length > 2 else 'no' }}", "{{ s[:5] ~ '...' if s | length > 5 else s }}",
]


def main():
    templates = ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES
    print(json.dumps({"context": CONTEXT}))
    for template in dict.fromkeys(templates):
        result = render(template, json.loads(json.dumps(CONTEXT)))
        if any(x in result.get("output", "") for x in (" at 0x", "<class")):
            continue  # an address: no two renderings agree
        if "error" in result:  # messages may differ, kinds and what raise_exception says may not
            kind, _, message = result["error"].partition(":")
            result = {"error": result["error"] if kind == "TemplateError" else kind}
        print(json.dumps({"template": template, **result}))


if __name__ == "__main__":
    main()
