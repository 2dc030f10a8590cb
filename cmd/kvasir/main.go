// Command kvasir is the whole of Kvasir in one binary: gateway, agent, embedded
// engine and the tools around them. One file holds one subcommand; what a
// subcommand does lives in the packages below.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/kvasir-ai/kvasir/internal/signals"
)

// Exit codes: scripts rely on them.
const (
	exitFailed = 1 // it was tried and did not work
	exitUsage  = 2 // it was not tried: bad flags
)

// exitError is an error that chose its exit code.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	err := newRoot().ExecuteContext(signals.Context())
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "kvasir:", err)
	code := exitFailed
	if e := (exitError{}); errors.As(err, &e) {
		code = e.code
	}
	os.Exit(code)
}
