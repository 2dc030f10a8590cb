package discovery

import (
	"context"

	"github.com/kvasir-ai/kvasir/workers"
)

// Static is a list that never changes.
func Static(infos ...workers.Info) workers.Source { return static(infos) }

type static []workers.Info

func (s static) Run(ctx context.Context, update func([]workers.Info)) error {
	update(s)
	<-ctx.Done()
	return ctx.Err()
}
