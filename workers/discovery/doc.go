// Package discovery says which workers there are: from a fixed list, a watched
// file, or etcd. It also registers a worker in etcd.
//
// Invariants:
//   - A source calls update only with a list that it knows to be the whole
//     truth. While its file is unreadable or etcd is away it says nothing, and
//     the fleet stays as it was.
//   - A registration re-creates itself after etcd was away, lost its data or let
//     the lease run out, for as long as the worker lives.
package discovery
