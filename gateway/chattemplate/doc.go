// Package chattemplate turns a chat into a prompt, as the model's engine does.
//
// Most models come with a Jinja template: a Template renders it byte for byte as
// Python's Jinja2 does when Hugging Face transformers sets it up: the immutable
// sandbox, trim_blocks and lstrip_blocks, the loop controls, the generation tag, and
// its own tojson. Some models have code instead, and a Renderer of their own here:
// gpt-oss (Harmony, with OpenAI's library), DeepSeekV32, DeepSeekV4 and Mistral
// (mistral-common, every version of its instruct tokenizers). package dialect knows
// which model has which.
//
// A Prompt is pieces. Jinja's and DeepSeek's is one piece of markup, in which the
// engine finds special tokens whoever wrote them. Harmony's and Mistral's libraries
// make ids string by string, so theirs are special tokens by name and plain texts,
// each encoded by itself; there a user's text cannot forge a special token.
//
// It owns the language (lexer, parser, name resolution, evaluator), Python's
// value semantics as far as templates can observe them (value printing,
// arithmetic, string methods, filters, tests), and the preparation that vLLM
// applies to a chat request before rendering.
//
// Invariants:
//   - The package is pure: no clock, socket, goroutine or logger. The time that
//     strftime_now reads is an argument.
//   - A Template is immutable after Parse and may be rendered concurrently.
//   - A Value reachable from a context is never changed by rendering.
//   - Whatever the template or the context, Parse, Render and FromJSON return:
//     nesting, steps, bytes produced and output are bounded (see limits.go).
//
// Refused, with an error that says so, is what no engine's prompt can depend on or
// what chat templates do not use: random and lipsum (no two renderings agree), the
// filters pprint and urlize, the autoescape tag, other templates (include, import,
// extends: there is no loader), bytes and complex numbers, text with lone surrogates.
//
// The tests hold the package to Python: testdata/golden.py renders a template for each
// feature with Jinja2 itself; and where KVASIR_PYTHON names a Python that has
// jinja2==3.1.6, random templates and conversations are compared while testing
// (KVASIR_EFFORT multiplies how many, KVASIR_SEED repeats a run). The renderers that
// are no templates are held to the engine's code in package dialect.
//
// There are no locks.
package chattemplate
