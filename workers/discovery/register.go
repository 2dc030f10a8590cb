package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvasir-ai/kvasir/workers"
)

// Registration keeps a worker in etcd while it lives.
type Registration struct {
	c     EtcdConfig
	key   string
	value string
	stop  context.CancelFunc
	done  chan struct{}
}

// Register puts a worker into etcd under a lease and keeps it there until Close.
// Etcd need not be up yet. Values in ctx pass; its end does not end the
// registration.
func Register(ctx context.Context, c EtcdConfig, info workers.Info) (*Registration, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	if err := info.Validate(); err != nil {
		return nil, fmt.Errorf("discovery: register: %w", err)
	}
	if strings.Contains(string(info.ID), "/") {
		return nil, fmt.Errorf("discovery: register: worker id %q must not contain a slash", info.ID)
	}
	value, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("discovery: register: %w", err)
	}
	key := c.Prefix + string(info.ID)
	if value, err = seal(c.Secret, key, value); err != nil {
		return nil, fmt.Errorf("discovery: register: %w", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Registration{c: c, key: key, value: string(value), stop: stop, done: make(chan struct{})}
	go r.run(ctx)
	return r, nil
}

// Close takes the worker out of etcd, or leaves that to the lease when etcd is
// away, and returns when that is done.
func (r *Registration) Close() {
	r.stop()
	<-r.done
}

func (r *Registration) run(ctx context.Context) {
	defer close(r.done)
	away := false
	for ctx.Err() == nil {
		err := r.hold(ctx, func() {
			r.c.Log.Info("registered in etcd", "key", r.key)
			away = false
		})
		if ctx.Err() == nil && !away {
			r.c.Log.Warn("the registration in etcd is lost; it is made again once etcd is back", "key", r.key, "error", err)
			away = true
		}
		r.c.pause(ctx)
	}
}

// hold registers and keeps the lease until it is lost or ctx ends, and then
// gives it back.
func (r *Registration) hold(ctx context.Context, registered func()) error {
	// The client outlives ctx: giving the lease back needs it.
	clientCtx, closeClient := context.WithCancel(context.WithoutCancel(ctx))
	defer closeClient()
	cli, err := r.c.dial(clientCtx)
	if err != nil {
		return err
	}
	defer cli.Close()
	lease, err := r.put(ctx, cli)
	if err != nil {
		return err
	}
	alive, err := cli.KeepAlive(ctx, lease)
	if err == nil {
		registered()
		for range alive { // ends when the lease is lost or ctx ends
		}
		err = errors.New("the lease ran out")
	}
	if ctx.Err() != nil {
		revokeCtx, cancel := context.WithTimeout(clientCtx, r.c.Timeout)
		defer cancel()
		if _, err := cli.Revoke(revokeCtx, lease); err != nil {
			r.c.Log.Warn("could not deregister; the lease runs out by itself", "key", r.key, "error", err)
		}
	}
	return err
}

func (r *Registration) put(ctx context.Context, cli *clientv3.Client) (clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	grant, err := cli.Grant(ctx, max(int64(r.c.TTL.Seconds()), 1))
	if err != nil {
		return 0, err
	}
	_, err = cli.Put(ctx, r.key, r.value, clientv3.WithLease(grant.ID))
	return grant.ID, err
}
