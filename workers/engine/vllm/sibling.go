package vllm

import "context"

// Get reads the body of one route of an engine that shares this HTTP surface in
// part, as SGLang and TensorRT-LLM do. Found is false for 404.
func (c *Client) Get(ctx context.Context, path string) (body []byte, found bool, err error) {
	body, err = c.get(ctx, path)
	if missing(err) {
		return nil, false, nil
	}
	return body, err == nil, err
}

// Reachable gives an endpoint that names every interface the engine's host.
func (c *Client) Reachable(endpoint string) string { return c.reachable(endpoint) }
