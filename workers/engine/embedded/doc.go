// Package embedded is a small inference engine of our own: Llama-family models
// on the CPU, behind the same HTTP surface and the same KV events as vLLM. It
// exists for trying, testing and truth; production engines are served through
// their adapters.
//
// It owns the scheduler (continuous batching, chunked prefill, preemption by
// recomputing), sequences and their pages, sampling, the HTTP surface, and what
// is told about the pages. The arithmetic is package llama's, the pages are the
// block manager's gpu tier, reported honestly as being on the device "cpu".
//
// A request goes: handler (parse, render, tokenize, hash) -> submit -> restoring,
// while blocks in lower tiers are brought up -> waiting, until there are pages
// for all of it -> running -> finished. Tokens come back through a mailbox.
//
// Invariants:
//   - Greedy output is bit-identical whatever the batch, the chunks, the
//     preemptions, and whether blocks were computed, reused or restored; a seed
//     makes sampled output so, too.
//   - The scheduler never waits for anything but the model: readers have
//     mailboxes, restores have their own state, and a late restore is a miss.
//   - A sequence gives up its pages exactly once, however it ends (laws 1 and 4).
//   - Events about the pages follow the block manager's own order, so replaying
//     them gives what is in the pages (law 3); see announcer for the one block
//     that is told late: one onboarded before its tokens are known.
//   - The prompt's root includes cache_salt: no request reuses a block that was
//     made under another salt (law 7).
//
// Where it differs from vLLM: tools are rendered into the prompt but calls are
// not parsed out of the answer, which is plain text; there is no structured
// output, beam search, echo or suffix (each refused by name); a block computed
// twice at the same time is shared afterwards, so no duplicate is ever
// announced.
//
// Locks: scheduler.mu, announcer.mu and mailbox.mu are leaves; none is held
// while another is taken or the block manager is called.
package embedded
