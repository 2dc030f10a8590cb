package tokenizer

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// addedToken is a piece that is found in the text before anything else.
type addedToken struct {
	content    string // as the text holds it; once normalized, if it is looked for there
	id         uint32
	special    bool
	singleWord bool
	lstrip     bool
	rstrip     bool
	normalized bool // looked for in the normalized text, not in the raw one
}

// matcher finds added tokens, leftmost first and of those the longest.
type matcher struct {
	tokens []addedToken // sorted by content
	first  [256]bool    // bytes that begin a token
	second [256]bool    // bytes that come second in one; all true if one has a single byte
	only   int          // the one byte that begins all tokens, or -1
}

func newMatcher(tokens []addedToken) *matcher {
	if len(tokens) == 0 {
		return nil
	}
	m := &matcher{tokens: tokens, only: int(tokens[0].content[0])}
	sort.SliceStable(m.tokens, func(i, j int) bool { return tokens[i].content < tokens[j].content })
	for _, t := range tokens {
		m.first[t.content[0]] = true
		if int(t.content[0]) != m.only {
			m.only = -1
		}
		if len(t.content) > 1 {
			m.second[t.content[1]] = true
			continue
		}
		for i := range m.second {
			m.second[i] = true
		}
	}
	return m
}

// next finds the first token in s[from:].
func (m *matcher) next(s string, from int) (at int, t *addedToken) {
	for i := from; i < len(s); i++ {
		if m.only >= 0 {
			skip := strings.IndexByte(s[i:], byte(m.only))
			if skip < 0 {
				return 0, nil
			}
			i += skip
		} else if !m.first[s[i]] {
			continue
		}
		if i+1 < len(s) && !m.second[s[i+1]] {
			continue
		}
		if t := m.longest(s[i:]); t != nil {
			return i, t
		}
	}
	return 0, nil
}

// longest is the longest token that s begins with: the sorted tokens are
// narrowed byte by byte to those that agree with s so far.
func (m *matcher) longest(s string) (best *addedToken) {
	tokens := m.tokens
	for depth := 0; len(tokens) > 0; depth++ {
		if len(tokens[0].content) == depth {
			best = &tokens[0]
			for len(tokens) > 0 && len(tokens[0].content) == depth {
				tokens = tokens[1:]
			}
		}
		if depth == len(s) {
			break
		}
		c := s[depth]
		lo := sort.Search(len(tokens), func(i int) bool { return tokens[i].content[depth] >= c })
		tokens = tokens[lo:]
		hi := sort.Search(len(tokens), func(i int) bool { return tokens[i].content[depth] > c })
		tokens = tokens[:hi]
	}
	return best
}

// find is next with the flags of the token found: skipped if it must be a
// single word and is not, widened over spaces if it strips them. Text before
// start belongs to the token found before.
func (m *matcher) find(s string, from, start int) (at, scanned, end int, t *addedToken) {
	for {
		at, t = m.next(s, from)
		if t == nil {
			return 0, 0, 0, nil
		}
		end = at + len(t.content)
		from = end
		if !t.singleWord || standsAlone(s, at, end) {
			break
		}
	}
	scanned = end
	if t.lstrip {
		for at > start {
			r, n := utf8.DecodeLastRuneInString(s[:at])
			if runeClass[r]&classSpace == 0 {
				break
			}
			at -= n
		}
		at = max(at, start)
	}
	if t.rstrip {
		end = skip(s, end, classSpace)
	}
	return at, scanned, end, t
}

func standsAlone(s string, at, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:at])
	after, _ := utf8.DecodeRuneInString(s[end:])
	return (at == 0 || !isWord(before)) && (end == len(s) || !isWord(after))
}
