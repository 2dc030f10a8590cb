package vllm

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// An engine's part in shared requests is its KV connector's role; connectors that
// store KV and hand none over say nothing.
func TestShare(t *testing.T) {
	for config, want := range map[string]Share{
		`{"vllm_config":{"kv_transfer_config":null}}`: {},
		`{"vllm_config":{}}`:                          {},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"NixlConnector","kv_role":"kv_producer","kv_connector_extra_config":{}}}}`: {kv.Prefill, "nixl"},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}}}`:                                {kv.Decode, "nixl"},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"NixlConnector","kv_role":"kv_both"}}}`:                                    {kv.Aggregated, "nixl"},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"MooncakeConnector","kv_role":"kv_consumer"}}}`:                            {kv.Decode, "mooncake"},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"KvasirConnector","kv_role":"kv_producer"}}}`:                              {},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"MultiConnector","kv_role":"kv_both","kv_connector_extra_config":{"connectors":[` +
			`{"kv_connector":"OffloadingConnector","kv_role":"kv_both"},{"kv_connector":"NixlConnector","kv_role":"kv_producer"}]}}}}`: {kv.Prefill, "nixl"},
		`{"vllm_config":{"kv_transfer_config":{"kv_connector":"MultiConnector","kv_role":"kv_consumer","kv_connector_extra_config":{"connectors":[` +
			`{"kv_connector":"NixlConnector","kv_role":"kv_both"}]}}}}`: {kv.Decode, "nixl"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RequestURI() != "/server_info?config_format=json" {
				t.Errorf("asked for %s", r.URL)
			}
			fmt.Fprint(w, config)
		}))
		c := Client{HTTP: s.Client(), URL: s.URL}
		if got, told, err := c.Share(t.Context()); got != want || !told || err != nil {
			t.Errorf("%s: %+v, %v, %v", config, got, told, err)
		}
		s.Close()
	}
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	c := Client{HTTP: s.Client(), URL: s.URL}
	if got, told, err := c.Share(t.Context()); got != (Share{}) || told || err != nil {
		t.Errorf("without the route: %+v, %v, %v", got, told, err)
	}
}
