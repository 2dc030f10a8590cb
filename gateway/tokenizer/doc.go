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
//   - Character classes come from versioned Unicode tables (classes.go, made by
//     internal/ucd), never from the Go release's.
//   - Text is cut before merging only where no token can span the cut.
//   - Time is O(n log n) in the length of the text, whatever the text is.
//
// A Tokenizer is immutable after Load and safe for concurrent use. Scratch
// memory and word caches live in pooled encoders that one call holds at a time;
// there are no locks. A Decoder belongs to one stream and is not safe for
// concurrent use.
//
// The package is pure: no clock, socket, goroutine or logger.
package tokenizer
