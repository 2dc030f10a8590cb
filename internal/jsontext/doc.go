// Package jsontext skips over the text of JSON strings, eight bytes at a time.
package jsontext
