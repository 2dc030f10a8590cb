package embedded

import "net/http"

type tokenizeRequest struct {
	conversation
	Model            string  `json:"model"`
	Prompt           *string `json:"prompt"`
	AddSpecialTokens *bool   `json:"add_special_tokens"`
	ReturnStrings    bool    `json:"return_token_strs"`
}

type tokenizeResponse struct {
	Count       int      `json:"count"`
	MaxModelLen int      `json:"max_model_len"`
	Tokens      []uint32 `json:"tokens"`
	Strings     []string `json:"token_strs"`
}

// tokenize answers for a prompt or, as chat completions would render it, for
// messages.
func (s *server) tokenize(w http.ResponseWriter, r *http.Request) {
	var req tokenizeRequest
	err := read(w, r, &req)
	if err == nil {
		err = s.checkModel(req.Model)
	}
	var tokens []uint32
	switch {
	case err != nil:
	case req.Prompt != nil:
		tokens = s.tokenizer.Encode(nil, *req.Prompt, req.AddSpecialTokens == nil || *req.AddSpecialTokens)
	default:
		req.conversation.AddSpecialTokens = req.AddSpecialTokens != nil && *req.AddSpecialTokens
		tokens, err = s.render(&req.conversation)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	resp := tokenizeResponse{Count: len(tokens), MaxModelLen: s.maxContext, Tokens: tokens}
	if tokens == nil {
		resp.Tokens = []uint32{}
	}
	if req.ReturnStrings {
		resp.Strings = make([]string, len(tokens))
		for i, id := range tokens {
			resp.Strings[i], _ = s.tokenizer.Token(id)
		}
	}
	writeJSON(w, http.StatusOK, resp)
}

func (s *server) detokenize(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model  string   `json:"model"`
		Tokens []uint32 `json:"tokens"`
	}
	err := read(w, r, &req)
	if err == nil {
		err = s.checkModel(req.Model)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"prompt": string(s.tokenizer.Decode(nil, req.Tokens, false))})
}
