package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// listen binds unix:///path or host:port.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return ListenUnix(strings.TrimPrefix(path, "//"))
	}
	if address == "" {
		return nil, errors.New("no address to listen on: want unix:///path or host:port")
	}
	return net.Listen("tcp", address)
}

// unixListener removes its file when closed; net's own way would remove the
// name under which it was first bound.
type unixListener struct {
	*net.UnixListener
	path string
}

// ListenUnix binds a socket that only this user may use. It is bound under
// another name and moved into place, so that there is no moment at which others
// may connect, and a stale file of an earlier process is replaced at once.
func ListenUnix(path string) (net.Listener, error) {
	if err := replaceable(path); err != nil {
		return nil, err
	}
	bound := path + ".new"
	if err := os.Remove(bound); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(bound, 0o600), os.Rename(bound, path)); err != nil {
		l.Close()
		os.Remove(bound)
		return nil, err
	}
	return &unixListener{l, path}, nil
}

func replaceable(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket: choose another path or remove it", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("another agent listens on %s: stop it or choose another path", path)
	}
	return nil
}

// Addr is where the socket lies now.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the file.
func (l *unixListener) Close() error {
	return errors.Join(l.UnixListener.Close(), os.Remove(l.path))
}

// trust is what callers must show: nothing on a Unix socket, which only this user
// may use; over TCP what t says.
func trust(l net.Listener, t *tls.Config) credentials.TransportCredentials {
	if t == nil || l.Addr().Network() == "unix" {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(t)
}

// target is a listener's address as gRPC dials it.
func target(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix://" + a.String()
	}
	return a.String()
}
