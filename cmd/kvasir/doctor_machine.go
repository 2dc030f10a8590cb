package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/config"
)

// doctorChecks lists the checks that cfg calls for.
func doctorChecks(cfg *config.Config, env []string) []check {
	checks := []check{
		{"machine", checkMachine},
		{"open files", checkOpenFiles},
		{"locked memory", checkLockedMemory},
		{"nvidia driver", checkDriver},
		{"nvml", checkNVML},
	}
	if cfg.Tiers.Disk != nil {
		checks = append(checks, check{"disk tier", checkDisk})
	}
	checks = append(checks, serviceChecks(cfg)...)
	return append(checks, aliasChecks(env)...)
}

func checkMachine(context.Context, *config.Config) (verdict, string) {
	return verdictOK, fmt.Sprintf("%s/%s, %d cores, %.1f GiB of memory", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), gib(totalMemory()))
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// totalMemory is MemTotal of /proc/meminfo in bytes, 0 if it cannot be read.
func totalMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func checkOpenFiles(context.Context, *config.Config) (verdict, string) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return verdictNote, err.Error()
	}
	// Each request holds two sockets.
	if l.Max < 16384 {
		return verdictNote, fmt.Sprintf("limit is %d; every request in flight takes two, so raise it with ulimit -n 65536", l.Max)
	}
	return verdictOK, fmt.Sprintf("limit is %d", l.Max)
}

func checkLockedMemory(_ context.Context, cfg *config.Config) (verdict, string) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return verdictNote, err.Error()
	}
	if l.Max != unix.RLIM_INFINITY && l.Max < uint64(cfg.Tiers.CPU) {
		return verdictNote, fmt.Sprintf("limit is %s, less than tiers.cpu; with a GPU the pool is pinned, so raise it with ulimit -l unlimited", config.Size(l.Max))
	}
	return verdictOK, "enough for tiers.cpu"
}

func checkDriver(context.Context, *config.Config) (verdict, string) {
	d, err := cuda.Open()
	if err != nil {
		return verdictNote, err.Error() + "; fine unless this host has a GPU"
	}
	major, minor, err := d.Version()
	if err != nil {
		return verdictFail, err.Error()
	}
	devices, err := d.Devices()
	if err != nil {
		return verdictFail, err.Error()
	}
	names := make([]string, len(devices))
	for i, g := range devices {
		names[i] = fmt.Sprintf("%s (sm_%d%d, %.1f GiB)", g.Name, g.ComputeMajor, g.ComputeMinor, gib(int64(g.MemoryBytes)))
	}
	return verdictOK, fmt.Sprintf("CUDA %d.%d: %s", major, minor, strings.Join(names, ", "))
}

func checkNVML(context.Context, *config.Config) (verdict, string) {
	if r := nvml.Init(); r != nvml.SUCCESS {
		return verdictNote, nvml.ErrorString(r) + "; fine unless this host has a GPU"
	}
	defer nvml.Shutdown()
	n, r := nvml.DeviceGetCount()
	if r != nvml.SUCCESS {
		return verdictFail, nvml.ErrorString(r)
	}
	var lines []string
	for i := range n {
		d, r := nvml.DeviceGetHandleByIndex(i)
		if r != nvml.SUCCESS {
			return verdictFail, fmt.Sprintf("GPU %d: %s", i, nvml.ErrorString(r))
		}
		mem, r := d.GetMemoryInfo()
		if r != nvml.SUCCESS {
			return verdictFail, fmt.Sprintf("GPU %d: %s", i, nvml.ErrorString(r))
		}
		lines = append(lines, fmt.Sprintf("GPU %d: %d of %d MiB used", i, mem.Used>>20, mem.Total>>20))
	}
	return verdictOK, strings.Join(lines, "; ")
}

func checkDisk(_ context.Context, cfg *config.Config) (verdict, string) {
	d := cfg.Tiers.Disk
	if _, err := os.Stat(d.Path); os.IsNotExist(err) {
		return verdictNote, d.Path + " is not there yet; the worker makes it"
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(d.Path, &fs); err != nil {
		return verdictFail, fmt.Sprintf("%s: %v", d.Path, err)
	}
	probe := filepath.Join(d.Path, ".doctor")
	f, err := os.OpenFile(probe, os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	direct := err == nil
	if direct {
		f.Close()
	}
	os.Remove(probe)
	if free := int64(fs.Bavail) * fs.Bsize; free < int64(d.Size) {
		return verdictNote, fmt.Sprintf("%s has %s free for a slab of %s; fine if the slab is there already", d.Path, config.Size(free), d.Size)
	}
	if !direct {
		return verdictNote, d.Path + " does not take O_DIRECT; reads and writes go through the page cache"
	}
	return verdictOK, d.Path + " takes O_DIRECT"
}
