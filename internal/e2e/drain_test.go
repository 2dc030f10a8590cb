package e2e

import (
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// SIGTERM: not ready at once, still serving for drain_delay, the stream in
// flight ends whole, and the process with exit code 0 (stop checks it).
func TestDrain(t *testing.T) {
	g := startUp(t, []string{"KVASIR_CACHE=" + t.TempDir(), "KVASIR_LIMITS_DRAIN_DELAY=3s"})
	model := tinyName(g)
	whole := make(chan error, 1)
	go func() {
		r, err := http.Post(g.url+"/v1/completions", "application/json", strings.NewReader(
			`{"model":"`+model+`","prompt":"drain","max_tokens":2000,"ignore_eos":true,"stream":true}`))
		if err != nil {
			whole <- err
			return
		}
		defer r.Body.Close()
		var end strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			end.Write(buf[:n])
			if err != nil {
				break
			}
		}
		if !strings.HasSuffix(end.String(), "data: [DONE]\n\n") {
			whole <- errors.New("the stream was cut")
			return
		}
		whole <- nil
	}()
	g.eventually("the stream is in flight", func() error {
		if n, err := metric(g.url, "kvasir_gateway_in_flight", ""); err != nil || n != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	g.eventually("readiness is off", func() error {
		if statusOK(g.url+"/ready") == nil {
			return errors.New("ready")
		}
		return nil
	})
	if status, _, body := g.post("/v1/completions", `{"model":"`+model+`","prompt":"late","max_tokens":2}`); status != http.StatusOK {
		t.Errorf("a request within drain_delay is answered %d %s", status, body)
	}
	if err := <-whole; err != nil {
		t.Error(err)
	}
	<-g.done
	if g.err != nil {
		t.Errorf("the process ended with %v", g.err)
	}
}
