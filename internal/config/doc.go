// Package config is Kvasir's one YAML file: its shape, its strict parser and
// what makes it valid.
//
// The comments on the fields below are the settings' reference: docs/reference
// is generated from them. Order of authority: command line flags, then
// environment, then the file, then the defaults written here.
//
// Every problem is reported as file:line: what is wrong and what was expected,
// and all of them at once.
package config
