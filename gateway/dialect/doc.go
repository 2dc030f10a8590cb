// Package dialect turns what clients say to one model, chats and prompts, into
// exactly the tokens that the model's engine makes of it.
//
// It owns the choice of a chat's renderer, which is vLLM's (see find.go), and the
// way from a rendered prompt to ids: pieces of a chattemplate.Prompt are encoded one
// by one, special tokens looked for only where the engine looks for them. So a user
// who writes <|im_end|> ends a turn where a Jinja template makes the prompt, because
// there the engine lets it happen, and does not with Harmony and Mistral's
// tokenizers, which build prompts of ids.
//
// A Dialect is immutable and safe for concurrent use. There are no locks.
package dialect
