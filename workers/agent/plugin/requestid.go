package plugin

import "regexp"

// vLLM makes its ids of the X-Request-Id that it was sent: a prefix for the
// kind of request, the number of the prompt in a completion, and a tail of its
// own.
var engineIDs = []*regexp.Regexp{
	regexp.MustCompile(`^cmpl-(.+)-\d+-[0-9a-f]{8}$`),
	regexp.MustCompile(`^chatcmpl-(.+)-[0-9a-f]{8}$`),
}

// gatewayID is the id under which a gateway knows an engine's request; empty
// where it cannot be told.
func gatewayID(engine string) string {
	for _, re := range engineIDs {
		if m := re.FindStringSubmatch(engine); m != nil {
			return m[1]
		}
	}
	return ""
}
