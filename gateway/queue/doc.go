// Package queue is the discipline by which requests wait at the gateway while
// the fleet of their model is saturated: which is next, which are refused, how
// long the wait is.
//
// High priority goes before normal, normal before low. Within a priority tenants
// share by weight, in tokens (start-time fair queueing): each tenant's next
// ticket has a virtual start, the smallest goes, and moves its tenant's next one
// back by its tokens over the tenant's weight. So a tenant with a thousand
// requests waiting delays another's only request by one of its own. Within a
// tenant it is first come, first served.
//
// Invariants:
//   - A ticket that was pushed leaves exactly once: by Pop, Remove, Expired, or as
//     the one that gave way to another in Push.
//   - A full queue refuses those who take more than their share: a newcomer takes
//     the place of the last ticket of a lower priority, or of the tenant of its own
//     priority that has most waiting for its weight, if that is more than its own.
//
// The package is pure: time comes in as a value, and the caller holds the lock.
package queue
