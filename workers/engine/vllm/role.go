package vllm

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Share is an engine's part in requests that two engines share.
type Share struct {
	Role kv.Role
	// Connector is what moves the KV: nixl or mooncake; "" where nothing does.
	Connector string
}

// transfer is the part of an engine's configuration that says so.
type transfer struct {
	Connector string `json:"kv_connector"`
	Role      string `json:"kv_role"`
	Extra     struct {
		Connectors []transfer `json:"connectors"` // MultiConnector's
	} `json:"kv_connector_extra_config"`
}

// connectors are vLLM's that hand a prompt's KV from one engine to another.
var connectors = map[string]string{
	"NixlConnector": "nixl", "NixlPullConnector": "nixl", "NixlPushConnector": "nixl", "MooncakeConnector": "mooncake",
}

func (t *transfer) share() (s Share) {
	s.Connector = connectors[t.Connector]
	for i := range t.Extra.Connectors {
		if part := t.Extra.Connectors[i].share(); part.Connector != "" {
			s.Connector = part.Connector
			if s.Role = part.Role; t.Role == "" || t.Role == "kv_both" {
				return s
			}
		}
	}
	if s.Connector == "" {
		return Share{}
	}
	switch t.Role {
	case "kv_producer":
		s.Role = kv.Prefill
	case "kv_consumer":
		s.Role = kv.Decode
	}
	return s
}

// Share asks the engine for its part. Only one with VLLM_SERVER_DEV_MODE=1 tells,
// and it may take seconds to the first time: it lists the packages of its machine
// too.
func (c *Client) Share(ctx context.Context) (s Share, told bool, err error) {
	body, found, err := c.Get(ctx, "/server_info?config_format=json")
	if err != nil || !found {
		return s, false, err
	}
	var info struct {
		Config struct {
			Transfer *transfer `json:"kv_transfer_config"`
		} `json:"vllm_config"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return s, false, fmt.Errorf("vllm: GET /server_info: %w", err)
	}
	if info.Config.Transfer == nil {
		return s, true, nil
	}
	return info.Config.Transfer.share(), true, nil
}
