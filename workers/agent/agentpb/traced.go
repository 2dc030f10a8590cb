package agentpb

import "google.golang.org/grpc/stats"

// Traced reports whether a call is part of a request's trace. The streams are
// not: they last as long as a worker.
func Traced(info *stats.RPCTagInfo) bool { return info.FullMethodName == Agent_Onboard_FullMethodName }
