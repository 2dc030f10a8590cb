package workers

import (
	"context"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// shareTimeout is how long an engine may take to tell its part in requests that
// two engines share. Until then it is taken to do all of it, which it can.
const shareTimeout = 30 * time.Second

// learnShare asks a vLLM of which discovery gave no role whether it has one.
func (w *Worker) learnShare(ctx context.Context) {
	engine := vllmClient(w.engine)
	if info := w.Known(); engine == nil || info.Role != kv.Aggregated || info.Engine == "embedded" {
		return
	}
	patient := *engine
	client := *engine.HTTP
	client.Timeout = shareTimeout
	patient.HTTP = &client
	pause := retry{min: w.c.BackoffMin, max: w.c.BackoffMax}
	for ctx.Err() == nil {
		share, told, err := patient.Share(ctx)
		if err == nil {
			if told && share.Connector != "" {
				w.complete(Info{Role: share.Role, Connector: share.Connector}, func(*Info) {})
				w.log.Info("the engine tells its part in shared requests", "role", share.Role, "connector", share.Connector)
			}
			return
		}
		pause.wait(ctx)
	}
}
