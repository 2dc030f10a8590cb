// Package gguf reads GGUF model files, versions 2 and 3, little endian: the
// metadata as Go values and the tensors as slices of the mapped file.
//
// A file comes from outside, so nothing in it is believed: every count, length
// and offset is checked against the bytes that are really there before anything
// is allocated or sliced, and nested arrays are refused.
//
// A File is immutable after Open and safe for concurrent use. Its tensors alias
// the mapping: they must not be written to, nor used after Close.
//
// The package is a leaf: it imports nothing of ours, and both the tokenizer and
// the embedded engine read models through it.
package gguf
