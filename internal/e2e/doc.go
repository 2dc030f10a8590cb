// Package e2e holds the end-to-end tests: they drive the built binary, and real
// clients, Redis and etcd around it, as a user would. It has no other code.
//
// What a machine lacks is skipped with a message that says so; deps.sh installs
// it, and with KVASIR_REQUIRE_ALL=1 a skip is a failure.
package e2e
