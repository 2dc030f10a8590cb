package chattemplate

import (
	"fmt"
	"strings"
)

// nth names an item of an array of the request.
func nth(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// textField reads a text that may be absent or null.
func textField(path string, d *dict, name string) (string, bool) {
	switch v := orNone(d.getStr(name)).(type) {
	case noneType:
		return "", false
	case str:
		return string(v), true
	}
	invalid(path+"."+name, "must be a string")
	return "", false
}

// arrayField reads an array that may be absent or null.
func arrayField(path string, d *dict, name string) []Value {
	switch v := orNone(d.getStr(name)).(type) {
	case noneType:
		return nil
	case *list:
		return v.items
	}
	invalid(path+"."+name, "must be an array")
	return nil
}

// onlyTextPart refuses a part of a content that is no text.
func onlyTextPart(path string, part *dict) {
	switch kind := part.getStr("type"); {
	case kind == str("text"):
	case kind == nil:
		invalid(path+".type", "is missing")
	case isMedia(kind):
		panic(&InvalidError{Param: path, Err: fmt.Errorf("%s: %w", kind, ErrUnsupportedContent)})
	default:
		invalid(path+".type", "unknown type of content part %s", repr(kind))
	}
}

// isMedia says whether a part's type names an image, sound, video or embedding.
func isMedia(kind Value) bool {
	name, _ := kind.(str)
	for _, media := range []string{"image", "audio", "video", "embeds"} {
		if strings.Contains(string(name), media) {
			return true
		}
	}
	return false
}
