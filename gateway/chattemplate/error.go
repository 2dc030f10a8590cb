package chattemplate

import "fmt"

// Names of the Python exceptions that rendering can end with.
const (
	kindSyntax    = "TemplateSyntaxError"
	kindPython    = "SyntaxError" // what Jinja accepts but CPython does not
	kindPyRuntime = "RuntimeError"
	kindAssertion = "TemplateAssertionError"
	kindTemplate  = "TemplateError"
	kindRuntime   = "TemplateRuntimeError"
	kindUndefined = "UndefinedError"
	kindSecurity  = "SecurityError"
	kindFilterArg = "FilterArgumentError"
	kindType      = "TypeError"
	kindValue     = "ValueError"
	kindKey       = "KeyError"
	kindIndex     = "IndexError"
	kindOverflow  = "OverflowError"
	kindZeroDiv   = "ZeroDivisionError"
	kindRecursion = "RecursionError"
	kindAssert    = "AssertionError"
	kindJSON      = "JSONDecodeError"
	kindLimit     = "LimitError" // a bound of this package, see limits.go
)

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

// raise ends the parsing or rendering in progress. Like Python's, our evaluator has
// an error in nearly every operation; a panic that never leaves the package (see
// catch) keeps each of them one expression, as text/template does.
func raise(kind, format string, args ...any) {
	panic(&Error{Kind: kind, Message: fmt.Sprintf(format, args...)})
}

// catch turns a raise into *err. Any other panic goes on.
func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case *Error:
		*err = p
	default:
		panic(p)
	}
}

// raiseAt is raise for a known line of the template.
func raiseAt(line int, kind, format string, args ...any) {
	panic(&Error{Kind: kind, Line: line, Message: fmt.Sprintf(format, args...)})
}
