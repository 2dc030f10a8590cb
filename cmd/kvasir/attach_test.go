package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/workers"
)

// Engines join as they answer, with their ranks; one that is not up yet holds
// nobody up.
func TestWorkersJoinWhenTheirEngineAnswers(t *testing.T) {
	var up atomic.Bool
	plain := httptest.NewServer(http.NotFoundHandler()) // it has no metrics
	defer plain.Close()
	ranks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			panic(http.ErrAbortHandler)
		}
		for i := range 2 {
			fmt.Fprintf(w, "vllm:cache_config_info{engine=\"%d\",block_size=\"16\"} 1.0\n", i)
		}
	}))
	defer ranks.Close()

	a := attached{[]workers.Info{{ID: "a", URL: ranks.URL}, {ID: "b", URL: plain.URL}}, slog.New(slog.NewTextHandler(io.Discard, nil))}
	ctx, stop := context.WithCancel(t.Context())
	lists, done := make(chan []workers.Info), make(chan error)
	go func() { done <- a.Run(ctx, func(list []workers.Info) { lists <- list }) }()
	expect := func(want ...string) {
		t.Helper()
		select {
		case list := <-lists:
			var got []string
			for _, info := range list {
				got = append(got, string(info.ID))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nobody joined; want %v", want)
		}
	}
	expect("b")
	up.Store(true)
	expect("a/dp0", "a/dp1", "b")
	stop()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}
