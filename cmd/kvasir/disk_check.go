package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/kvbm/disk"
)

// checkDisks verifies every block of a worker's slabs and prints what it found.
// It fails if anything could not be served.
func checkDisks(w io.Writer, cfg *config.Config) error {
	if cfg.Tiers.Disk == nil {
		return usagef("--disk-check: the configuration has no tiers.disk")
	}
	var errs []error
	for _, dir := range slabFolders(cfg) {
		r, err := disk.Check(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: %d slots of %d bytes, %d blocks: %d sound, %d corrupt, %d unreadable; %d journal records skipped\n",
			dir, r.Slots, r.BlockBytes, r.Blocks, r.Sound, r.Corrupt, r.Unreadable, r.SkippedRecords); err != nil {
			return err
		}
		if !r.OK() {
			errs = append(errs, fmt.Errorf("%s is damaged; a worker serves what is sound and drops the rest", dir))
		}
	}
	return errors.Join(errs...)
}
