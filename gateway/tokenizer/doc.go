// Package tokenizer turns text into exactly the token ids that the engine's
// own tokenizer gives, and back.
//
// It owns tokenizer.json (Hugging Face), tiktoken rank files and the tokenizer
// section of GGUF files; byte-level BPE and SentencePiece-style BPE. What it
// does not know exactly it refuses with ErrUnsupported, so that the caller can
// ask the engine's /tokenize instead: a wrong id is a lost KV hit, silently.
//
// Invariants:
//   - Encode equals the reference tokenizer id by id. A split pattern runs on a
//     hand-written scanner only if it is that very regex string; every other
//     pattern runs on a regex engine.
//   - Character classes come from versioned Unicode tables (classes_tables.go,
//     made by internal/ucd), never from the Go release's.
//   - Text is cut before splitting or merging only where that is proven to change
//     no id: see segments.go and cutfilter.go.
//   - Time is O(n log n) in the length of the text, whatever the text is. A pattern
//     on the regex engine may backtrack: TryEncode bounds it, by ErrTooCostly.
//
// A Tokenizer is safe for concurrent use. What it knows is fixed at load. Scratch
// memory and word caches live in pooled encoders that one call holds at a time;
// ids of long segments are cached in slots that are swapped atomically. There are
// no locks. A Decoder belongs to one stream and is not safe for concurrent use.
//
// The package is pure: no clock, socket, goroutine or logger, but for the regex
// engine's own clock; only load.go reads files.
package tokenizer
