package chattemplate

import "fmt"

// Error is a template that cannot be parsed or rendered.
type Error struct {
	Kind    string // the Python exception's name, such as TemplateSyntaxError or UndefinedError
	Line    int    // line of the template, 0 if unknown
	Message string
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("chat template line %d: %s: %s", e.Line, e.Kind, e.Message)
	}
	return "chat template: " + e.Kind + ": " + e.Message
}
