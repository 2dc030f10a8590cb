package sim

import (
	"errors"
	"sync"

	"github.com/kvasir-ai/kvasir/internal/trace"
)

// Compare runs the trace once for each policy, in parallel at a time, and calls
// ended, if any, as each run ends. Results are in the order of the policies.
func Compare(t *trace.Trace, o Options, policies []string, parallel int, ended func(*Result)) ([]*Result, error) {
	results := make([]*Result, len(policies))
	failures := make([]error, len(policies))
	slots := make(chan struct{}, max(1, parallel))
	var wg sync.WaitGroup
	var telling sync.Mutex
	for i, p := range policies {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			o := o
			o.Policy = p
			results[i], failures[i] = Run(t, o)
			if failures[i] == nil && ended != nil {
				telling.Lock()
				defer telling.Unlock()
				ended(results[i])
			}
		})
	}
	wg.Wait()
	return results, errors.Join(failures...)
}
