package discovery

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// EtcdConfig says where the fleet is kept. Worker w0 is at Prefix + "w0".
type EtcdConfig struct {
	Endpoints          []string
	Prefix             string // default "/kvasir/workers/"
	Username, Password string // empty: no authentication
	TLS                *tls.Config
	// Secret seals registrations: of those that are not sealed with it none
	// counts. Empty: whoever can write to etcd can register.
	Secret []byte
	Log    *slog.Logger

	// TTL is how long a registration outlives its worker (default 10 s).
	TTL time.Duration
	// Timeout bounds one call (default 3 s).
	Timeout time.Duration
	// Relist is how often the whole list is read again, because a watch on an
	// etcd that lost its data stays silent (default 30 s).
	Relist time.Duration
	// Retry is the pause after a failure (default 500 ms).
	Retry time.Duration
}

func (c *EtcdConfig) setDefaults() error {
	if len(c.Endpoints) == 0 {
		return errors.New("discovery: etcd needs at least one endpoint, as http://127.0.0.1:2379")
	}
	if c.Prefix == "" {
		c.Prefix = "/kvasir/workers/"
	}
	if !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.TTL, 10*time.Second)
	def(&c.Timeout, 3*time.Second)
	def(&c.Relist, 30*time.Second)
	def(&c.Retry, 500*time.Millisecond)
	return nil
}

// dial makes a client; it fails only where etcd must be asked first, for a token.
func (c *EtcdConfig) dial(ctx context.Context) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            c.Endpoints,
		Username:             c.Username,
		Password:             c.Password,
		TLS:                  c.TLS,
		DialTimeout:          c.Timeout,
		DialKeepAliveTime:    c.Timeout, // a stopped etcd keeps its connections: only this notices
		DialKeepAliveTimeout: c.Timeout,
		Logger:               zap.NewNop(), // what matters comes back as errors
	})
}

// pause waits after a failure.
func (c *EtcdConfig) pause(ctx context.Context) {
	t := time.NewTimer(c.Retry)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Etcd is the fleet registered in etcd.
func Etcd(c EtcdConfig) (workers.Source, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	return &etcdSource{c: c}, nil
}

type etcdSource struct{ c EtcdConfig }

func (s *etcdSource) Run(ctx context.Context, update func([]workers.Info)) error {
	away := false
	for ctx.Err() == nil {
		err := s.connect(ctx, func(infos []workers.Info) {
			if away {
				s.c.Log.Info("etcd is back")
				away = false
			}
			update(infos)
		})
		if ctx.Err() == nil && !away {
			s.c.Log.Warn("etcd is away; the fleet stays as it is", "error", err)
			away = true
		}
		s.c.pause(ctx)
	}
	return ctx.Err()
}

// connect follows the fleet on one client until something fails.
func (s *etcdSource) connect(ctx context.Context, update func([]workers.Info)) error {
	cli, err := s.c.dial(ctx)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	defer cli.Close()
	for {
		if err := s.follow(ctx, cli, update); err != nil {
			return fmt.Errorf("discovery: %w", err)
		}
	}
}

// follow lists the fleet and then applies changes until it is time to list
// again (nil) or something fails.
func (s *etcdSource) follow(ctx context.Context, cli *clientv3.Client, update func([]workers.Info)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listCtx, stop := context.WithTimeout(ctx, s.c.Timeout)
	list, err := cli.Get(listCtx, s.c.Prefix, clientv3.WithPrefix())
	stop()
	if err != nil {
		return err
	}
	fleet := map[string]workers.Info{}
	for _, e := range list.Kvs {
		s.put(fleet, e)
	}
	update(infos(fleet))
	watch := cli.Watch(clientv3.WithRequireLeader(ctx), s.c.Prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1))
	relist := time.NewTimer(s.c.Relist)
	defer relist.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-relist.C:
			return nil
		case change, ok := <-watch:
			if !ok {
				return errors.New("the watch ended")
			}
			if err := change.Err(); err != nil {
				return err
			}
			for _, e := range change.Events {
				if e.Type == clientv3.EventTypeDelete {
					delete(fleet, string(e.Kv.Key))
				} else {
					s.put(fleet, e.Kv)
				}
			}
			update(infos(fleet))
		}
	}
}

// put files one registration; one that makes no sense is as good as none.
func (s *etcdSource) put(fleet map[string]workers.Info, e *mvccpb.KeyValue) {
	info, err := parseRegistration(s.c.Secret, string(e.Key), e.Value)
	if err != nil {
		s.c.Log.Error("a registration in etcd is unusable", "key", string(e.Key), "error", err)
		delete(fleet, string(e.Key))
		return
	}
	fleet[string(e.Key)] = info
}

func parseRegistration(secret []byte, key string, value []byte) (workers.Info, error) {
	var info workers.Info
	value, err := unseal(secret, key, value)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(value, &info); err != nil {
		return info, err
	}
	if id := kv.WorkerID(path.Base(key)); info.ID != id {
		return info, fmt.Errorf("the key says worker %q, the value %q", id, info.ID)
	}
	return info, info.Validate()
}

func infos(fleet map[string]workers.Info) []workers.Info {
	list := make([]workers.Info, 0, len(fleet))
	for _, key := range slices.Sorted(maps.Keys(fleet)) {
		list = append(list, fleet[key])
	}
	return list
}
