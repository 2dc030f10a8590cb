package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/gateway/tenants"
	"github.com/kvasir-ai/kvasir/internal/config"
)

// tenantsFile is the directory of tenants and the file that it follows.
type tenantsFile struct {
	path      string
	read      []byte // what the directory was last made from
	directory *tenants.Directory
}

func newTenants(path string) (*tenantsFile, error) {
	f := &tenantsFile{path: path}
	var err error
	if f.directory, err = tenants.New(nil); err != nil {
		return nil, err
	}
	_, err = f.reload()
	return f, err
}

// reload reads the file again if it has changed.
func (f *tenantsFile) reload() (changed bool, err error) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return false, fmt.Errorf("auth.keys_file: %w", err)
	}
	if bytes.Equal(b, f.read) {
		return false, nil
	}
	f.read = b
	listed, err := config.ParseTenants(f.path, b)
	if err != nil {
		return false, err
	}
	specs, err := tenantSpecs(listed)
	if err != nil {
		return false, err
	}
	return true, f.directory.Replace(specs)
}

func tenantSpecs(listed *config.Tenants) ([]tenants.Spec, error) {
	specs := make([]tenants.Spec, len(listed.Tenants))
	for i, t := range listed.Tenants {
		priority, _ := queue.Parse(t.Priority)
		if t.Priority == "" {
			priority = queue.Normal
		}
		specs[i] = tenants.Spec{
			Name: t.Name, Models: t.Models, Group: t.Group, Admin: t.Admin,
			Priority: priority, Weight: float64(t.Weight),
			Limits: tenants.Limits{RequestsPerMinute: t.RequestsPerMinute, TokensPerMinute: t.TokensPerMinute, Concurrent: t.Concurrent},
		}
		for k, s := range t.Keys {
			key, err := tenants.ParseKey(s, os.LookupEnv)
			if err != nil {
				return nil, fmt.Errorf("tenant %q, key %d: %w", t.Name, k+1, err)
			}
			specs[i].Keys = append(specs[i].Keys, key)
		}
	}
	return specs, nil
}

// lookAtTenants is how often the keys file is looked at.
const lookAtTenants = time.Second

// watch follows the file until ctx ends. A file that cannot be used changes
// nothing, and is said once.
func (f *tenantsFile) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(lookAtTenants)
	defer tick.Stop()
	missing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := f.reload()
		switch {
		case errors.Is(err, os.ErrNotExist) && missing:
		case err != nil:
			log.Error("the tenants stay as they were: their file cannot be used", "error", err)
		case changed:
			log.Info("tenants read again", "file", f.path, "tenants", f.directory.Len())
		}
		missing = errors.Is(err, os.ErrNotExist)
	}
}
