package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// checkTokens compares the tokens of a worker's model with those of its engine,
// as a gateway does when the engine comes.
func checkTokens(ctx context.Context, cfg *config.Config, w config.Worker) (verdict, string) {
	info, err := workerInfo(w)
	if err != nil {
		return verdictFail, err.Error()
	}
	engine := vllm.Client{HTTP: http.DefaultClient, URL: w.URL, Authorize: info.Authorize}
	d, err := engine.Describe(ctx)
	if err != nil {
		return verdictFail, "the engine does not say what it serves: " + err.Error()
	}
	if info.Model == "" {
		info.Model = d.Model
	}
	path := vllm.Folder(d.Root)
	for _, m := range cfg.Models {
		if m.Name == info.Model && m.Tokenizer != "" {
			path = m.Tokenizer
		}
	}
	if path == "" {
		return verdictNote, fmt.Sprintf("no tokenizer of %s here: the engine is asked for every prompt's tokens; set models[].tokenizer", info.Model)
	}
	result, err := gateway.CheckTokens(ctx, http.DefaultClient, info, path)
	switch {
	case err != nil:
		return verdictFail, err.Error()
	case result.Difference != nil:
		return verdictNote, fmt.Sprintf("%s: %s: %s; the engine is asked instead", path, result.Result, result.Difference)
	case result.Result == gateway.TokensUnchecked:
		return verdictNote, "the engine has no /tokenize to compare with"
	}
	return verdictOK, fmt.Sprintf("%s: the engine's tokens in %d probes", path, result.Compared)
}
