// Package agentpb is the agent's control API on the wire: agent.proto, the code
// generated from it, and the packing of block hashes.
package agentpb

//go:generate ./generate.sh
