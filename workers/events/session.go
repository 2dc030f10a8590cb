package events

import "context"

// Run reads until ctx ends.
func (r *Reader) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
