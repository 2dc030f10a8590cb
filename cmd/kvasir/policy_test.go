package main

import (
	"fmt"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/router"
)

// The configuration takes every policy that the router has, and no other.
func TestConfigurationKnowsThePolicies(t *testing.T) {
	for _, name := range []string{"predicted", "round-robin", "random", "least-loaded", "session-hash", "prefix-only", "dynamo", "llm-d", "smg", "nonsense"} {
		_, routerErr := router.NewPolicy(name, 1)
		_, configErr := config.Parse("k.yaml", fmt.Appendf(nil, "router: {policy: %s}\n", name), nil)
		if (routerErr == nil) != (configErr == nil) {
			t.Errorf("%s: the router says %v, the configuration %v", name, routerErr, configErr)
		}
	}
}
