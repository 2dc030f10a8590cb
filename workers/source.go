package workers

import (
	"context"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Source says which workers there are.
type Source interface {
	// Run calls update with the whole list at first and after each change,
	// never concurrently, until ctx ends. While it does not know (its service is
	// away) it does not call: the fleet stays as it was. An error means that it
	// gave up; the fleet runs it again later.
	Run(ctx context.Context, update func([]Info)) error
}

// Sink is told what workers hold: the prefix index. It is called from many
// goroutines, but for one worker from one at a time.
type Sink interface {
	// AddWorker announces a worker and the shared store that it uses, empty for
	// none. Events about the Redis tier are filed under the store.
	AddWorker(id kv.WorkerID, sharedStore string)
	RemoveWorker(id kv.WorkerID)
	// Expect announces that about so many blocks more will be stored.
	Expect(blocks int)
	Apply(id kv.WorkerID, e kv.Event)
}
