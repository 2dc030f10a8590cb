package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counted serves h and counts the connections that are made to it.
func counted(t *testing.T, h http.HandlerFunc) (url string, made *atomic.Int64, s *httptest.Server) {
	made = new(atomic.Int64)
	s = httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, made, s
}

func newClient(t *testing.T) *Client {
	c := NewClient(4*time.Second, http.DefaultTransport)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Path", r.URL.Path)
	w.Header().Set("X-Own", r.Header.Get("X-Own"))
	_, _ = w.Write(body)
}

func post(t *testing.T, c *Client, url, body string) (status int, answer string) {
	t.Helper()
	resp, err := c.Post(t.Context(), url, "/v1/x", http.Header{"X-Own": {"1"}}, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestConnectionsAreKept(t *testing.T) {
	url, made, _ := counted(t, echo)
	c := newClient(t)
	for _, size := range []int{0, 1, joined, joined + 1, 1 << 20} {
		want := strings.Repeat("x", size)
		if status, got := post(t, c, url, want); status != 200 || got != want {
			t.Fatalf("a body of %d bytes came back as %d bytes with status %d", size, len(got), status)
		}
	}
	// An answer without a body is closed unread, which costs the connection.
	if n := made.Load(); n > 2 {
		t.Errorf("%d connections for requests one after the other", n)
	}
}

func TestPathAndHeadersArrive(t *testing.T) {
	url, _, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Method, " ", r.URL.Path, " ", r.Host, " ", r.Header["X-Own"], " ", r.ContentLength)
	})
	_, got := post(t, newClient(t), url+"/below/", "four")
	if want := "POST /below/v1/x " + strings.TrimPrefix(url, "http://") + " [1] 4"; got != want {
		t.Errorf("the engine saw %q, want %q", got, want)
	}
}

func TestAHeaderCannotSmuggleAnother(t *testing.T) {
	url, _, _ := counted(t, echo)
	for _, h := range []http.Header{{"X-A": {"1\r\nX-B: 2"}}, {"X-A\r\nX-B": {"2"}}, {"X: A": {"1"}}} {
		if _, err := newClient(t).Post(t.Context(), url, "/", h, nil); err == nil {
			t.Errorf("%q was sent", h)
		}
	}
}

// A kept connection that the engine closed is no failure of the engine.
func TestAStaleConnectionIsReplaced(t *testing.T) {
	url, made, s := counted(t, echo)
	c := newClient(t)
	post(t, c, url, "a")
	for range 3 {
		s.CloseClientConnections()
		if _, got := post(t, c, url, "b"); got != "b" {
			t.Fatalf("got %q", got)
		}
	}
	if n := made.Load(); n != 4 {
		t.Errorf("%d connections were made, want 4", n)
	}
}

// A connection that fails before its first answer is the engine's failure, and
// the request is not repeated: it may be what kills engines.
func TestAFreshConnectionIsNotTriedAgain(t *testing.T) {
	url, made, _ := counted(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := newClient(t).Post(t.Context(), url, "/", nil, []byte("x")); err == nil || errors.Is(err, errStale) {
		t.Errorf("err = %v", err)
	}
	if n := made.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// An answer that was begun is not begun again over another connection.
func TestABrokenAnswerIsNotRepeated(t *testing.T) {
	var served atomic.Int64
	url, _, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) == 1 {
			echo(w, r)
			return
		}
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c := newClient(t)
	post(t, c, url, "first")
	resp, err := c.Post(t.Context(), url, "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", b, err)
	}
	if n := served.Load(); n != 2 {
		t.Errorf("the engine saw %d requests", n)
	}
}

func TestTheContextInterrupts(t *testing.T) {
	reason := errors.New("the reason")
	for _, at := range []string{"before the header", "within the body"} {
		release := make(chan struct{})
		url, made, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/fine" {
				return
			}
			if at == "within the body" {
				_, _ = io.WriteString(w, "begun")
				_ = http.NewResponseController(w).Flush()
			}
			<-release
		})
		c := newClient(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		resp, err := func() (*http.Response, error) {
			if at == "before the header" {
				time.AfterFunc(10*time.Millisecond, func() { cancel(reason) })
			}
			return c.Post(ctx, url, "/", nil, nil)
		}()
		if at == "within the body" {
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(10*time.Millisecond, func() { cancel(reason) })
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if !errors.Is(err, reason) {
			t.Errorf("%s: err = %v", at, err)
		}
		close(release)
		cancel(nil)
		// The interrupted connection serves nobody any more.
		if resp, err := c.Post(t.Context(), url, "/fine", nil, nil); err != nil {
			t.Errorf("%s: the next request: %v", at, err)
		} else {
			resp.Body.Close()
		}
		if n := made.Load(); n != 2 {
			t.Errorf("%s: %d connections", at, n)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	gone := make(chan struct{}, 8)
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			gone <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	c := NewClient(20*time.Millisecond, nil)
	post(t, c, s.URL, "x")
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the idle connection is still there")
	}
	post(t, c, s.URL, "x")
	c.CloseIdleConnections()
}

// raw serves one connection with what answer writes.
func raw(t *testing.T, answer func(nc net.Conn, r *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		answer(nc, bufio.NewReader(nc))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func TestInterimAnswersAreSkipped(t *testing.T) {
	url := raw(t, func(nc net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	if status, got := post(t, newClient(t), url, "x"); status != 200 || got != "ok" {
		t.Errorf("got %d %q", status, got)
	}
}

func TestAHeaderWithoutEndIsGivenUp(t *testing.T) {
	url := raw(t, func(nc net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\n")
		for range 2 * mostHead / 1024 {
			if _, err := io.WriteString(nc, "X-A: "+strings.Repeat("a", 1017)+"\r\n"); err != nil {
				return
			}
		}
	})
	if _, err := newClient(t).Post(t.Context(), url, "/", nil, nil); !errors.Is(err, errLongHead) {
		t.Errorf("err = %v", err)
	}
}

// An engine that closes after its answer says so, or just does.
func TestClosedAfterTheAnswer(t *testing.T) {
	url, made, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		echo(w, r)
	})
	c := newClient(t)
	for range 3 {
		if _, got := post(t, c, url, "x"); got != "x" {
			t.Fatalf("got %q", got)
		}
	}
	if n := made.Load(); n != 3 {
		t.Errorf("%d connections, want one a request", n)
	}
}

// An answer that comes before the body was taken, from an engine that won't take it.
func TestRefusedBeforeTheBodyWasTaken(t *testing.T) {
	url := raw(t, func(nc net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		_, _ = io.Copy(io.Discard, r)
	})
	if status, got := post(t, newClient(t), url, strings.Repeat("x", 8<<20)); status != 413 || got != "big" {
		t.Errorf("got %d %q", status, got)
	}
}

func BenchmarkPost(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	defer s.Close()
	body := []byte(strings.Repeat("x", 1400))
	c := NewClient(4*time.Second, nil)
	defer c.CloseIdleConnections()
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Post(b.Context(), s.URL, "/", nil, body)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.Run("http.Transport", func(b *testing.B) {
		t := &http.Transport{}
		defer t.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.URL, strings.NewReader(string(body)))
			if err != nil {
				b.Fatal(err)
			}
			resp, err := t.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
