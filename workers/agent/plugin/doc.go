// Package plugin is the agent's side of the plug-in protocol
// (docs/plugin-protocol.md): a Unix socket over which a connector inside an
// engine's process stages blocks in the host pool, takes them from there, and
// puts new ones there. The blocks themselves pass through memory that both
// map; only names of blocks and numbers of slots pass through the socket.
//
// The engine part that has the pages says how long a block is and what its
// bytes depend on, and so it is its arrival that opens the block manager.
// Managers outlive connections: an engine that comes back finds its blocks.
//
// # Who may touch a slot
//
//   - A granted slot has one writer, the connection it was granted to, until it
//     commits the slot or ends. The slots of a connection that ended are given
//     to others only after quarantine: its process may be in the middle of a
//     copy.
//   - A staged slot may be read until it is released or its hold has passed,
//     whichever is first; the plug-in keeps that time itself. A lost connection
//     releases nothing.
//
// # Locks
//
// Server.mu guards the manager and the connections, session.mu one connection's
// stages and grants, session.out its socket. None is held while another is
// taken or the manager is called, but for session.mu, under which the manager
// is.
package plugin
