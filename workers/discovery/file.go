package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

const (
	maxFile  = 16 << 20 // bytes of a fleet file
	filePoll = time.Second
)

// File is a YAML or JSON file with a list of workers, as in the configuration:
//
//   - id: w0
//     url: http://127.0.0.1:8101
//
// It is read again whenever its content changes. A file that cannot be used is
// logged and changes nothing.
func File(path string, log *slog.Logger) workers.Source {
	return &file{path: path, log: log, ticks: func() (<-chan time.Time, func()) {
		t := time.NewTicker(filePoll)
		return t.C, t.Stop
	}}
}

type file struct {
	path  string
	log   *slog.Logger
	ticks func() (ticks <-chan time.Time, stop func())
}

func (f *file) Run(ctx context.Context, update func([]workers.Info)) error {
	ticks, stop := f.ticks()
	defer stop()
	var applied, seen []byte
	var problem string // logged already
	for {
		// Comparing the content needs no trust in time stamps, which coarse file
		// systems and atomic replacement both spoil.
		content, err := readBounded(f.path)
		settled := applied == nil || bytes.Equal(content, seen) // not being written just now
		seen = content
		var infos []workers.Info
		changed := err == nil && settled && !bytes.Equal(content, applied)
		if changed {
			infos, err = ParseFile(content)
		}
		switch {
		case err != nil && err.Error() != problem:
			problem = err.Error()
			f.log.Error("the fleet file is unusable; the fleet stays as it is", "file", f.path, "error", err)
		case err == nil && changed:
			problem, applied = "", content
			update(infos)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks:
		}
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return content, err
}

// ParseFile reads the content of a fleet file.
func ParseFile(content []byte) ([]workers.Info, error) {
	var doc []any
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("want a list of workers: %w", err)
	}
	if doc == nil {
		return nil, errors.New("want a list of workers, [] for none")
	}
	// Through JSON, so that there is one set of field names.
	asJSON, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("want a list of workers: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(asJSON))
	d.DisallowUnknownFields()
	var infos []workers.Info
	if err := d.Decode(&infos); err != nil {
		return nil, fmt.Errorf("want a list of workers: %w", err)
	}
	seen := map[kv.WorkerID]bool{}
	for _, i := range infos {
		if err := i.Validate(); err != nil {
			return nil, err
		}
		if seen[i.ID] {
			return nil, fmt.Errorf("worker %s is listed twice", i.ID)
		}
		seen[i.ID] = true
	}
	return infos, nil
}
