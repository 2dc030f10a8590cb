package gateway

import (
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// reportOf is the part of a worker's report that the router goes by.
func reportOf(s *workers.Stats) *router.Report {
	return &router.Report{At: s.At, Running: s.Running, Waiting: s.Waiting, KVUsage: s.KVUsage, QueuedPrefillTokens: s.QueuedPrefillTokens}
}
