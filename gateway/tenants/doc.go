// Package tenants knows who may use the gateway: API keys, what each tenant may
// ask for, and how much.
//
// Keys are known by their SHA-256 alone. They are random strings, so a slow hash
// would protect nothing that a fast one does not; whoever reads the file cannot
// use what is in it.
//
// Invariants:
//   - Law 7, isolation: two tenants never share a KV block, because each tenant's
//     salt is mixed into the root of its prompts' hashes and sent to the engine.
//     Tenants of one group share a salt, because the operator says so. No client
//     can choose a salt that is another's: what it sends is hashed with its own.
//   - Replacing the tenants keeps the accounts of those that stay.
//
// Time comes in as a value. All methods are safe for concurrent use; each
// tenant's account has a lock of its own, a leaf.
package tenants
