package embedded

import "strings"

// stopper finds the first stop string in a text that comes in pieces. It holds
// back no more than what may be the beginning of one.
type stopper struct {
	stops   []string
	include bool // keep the stop string in the text
	held    string
}

// push adds text and returns what is certain to belong to the answer. With a
// stop string found, match is that string and the text ends there.
func (s *stopper) push(text string) (out, match string) {
	s.held += text
	at := -1
	for _, stop := range s.stops {
		if i := strings.Index(s.held, stop); i >= 0 && (at < 0 || i < at) {
			at, match = i, stop
		}
	}
	if at >= 0 {
		out, s.held = s.held[:at], ""
		if s.include {
			out += match
		}
		return out, match
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > keep; n-- {
			if strings.HasSuffix(s.held, stop[:n]) {
				keep = n
			}
		}
	}
	out, s.held = s.held[:len(s.held)-keep], s.held[len(s.held)-keep:]
	return out, ""
}

// flush returns what was held back: no stop string came.
func (s *stopper) flush() string {
	out := s.held
	s.held = ""
	return out
}
