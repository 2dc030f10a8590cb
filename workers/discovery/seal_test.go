package discovery

import (
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/workers"
)

// A stranger who can write to etcd cannot put a worker into the fleet, nor give
// one worker's registration another name, nor change one.
func TestForgedRegistrationsAreRefused(t *testing.T) {
	secret, key := []byte("a secret"), "/kvasir/workers/w0"
	worker := []byte(`{"id":"w0","url":"http://10.0.0.1:8000"}`)
	value, err := seal(secret, key, worker)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := parseRegistration(secret, key, value); err != nil || info.ID != "w0" || info.URL != "http://10.0.0.1:8000" {
		t.Fatalf("%+v %v", info, err)
	}
	other, _ := seal([]byte("another"), key, worker)
	for name, forged := range map[string][]byte{
		"plain": worker, "with another secret": other, "empty": []byte("{}"), "no JSON": []byte("x"),
		"changed": []byte(strings.Replace(string(value), "10.0.0.1", "10.0.0.9", 1)),
	} {
		if info, err := parseRegistration(secret, key, forged); err == nil {
			t.Errorf("%s: %+v came in", name, info)
		}
	}
	if _, err := parseRegistration(secret, "/kvasir/workers/w1", value); err == nil {
		t.Error("w0's registration passed as w1's")
	}
	if info, err := parseRegistration(nil, key, worker); err != nil || info != (workers.Info{ID: "w0", URL: "http://10.0.0.1:8000"}) {
		t.Errorf("without a secret: %+v %v", info, err)
	}
}
