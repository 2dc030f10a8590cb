// Package kv is the one vocabulary that every Kvasir package shares: block
// identity, tiers, roles, worker ids and block events.
//
// It is pure (no clock, socket, goroutine or logger) and imports nothing of
// ours. A word belongs here only when at least two packages that may not
// import each other must agree on it.
package kv
