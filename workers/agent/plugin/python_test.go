package plugin

import (
	"os/exec"
	"testing"
)

// TestThePluginsOwnTests runs those of the Python side that need no vLLM.
func TestThePluginsOwnTests(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is missing")
	}
	c := exec.Command(python, "-B", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
	c.Dir = "../../plugins/vllm"
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
