// Package signals ends a process as its operator asks. It listens as soon as it is
// loaded, before the packages that main needs: what comes while they start is an
// orderly end too, not a death.
package signals

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

var asked = make(chan os.Signal, 1)

func init() { signal.Notify(asked, os.Interrupt, syscall.SIGTERM) }

// Context ends with the first signal, also one that came before. A second one ends
// the process at once.
func Context() context.Context {
	ctx, end := context.WithCancel(context.Background())
	go func() {
		<-asked
		signal.Stop(asked)
		end()
	}()
	return ctx
}
