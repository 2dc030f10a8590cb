package loadgen

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of /proc's CPU times: USER_HZ, 100 a second on every
// Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a target's process took.
type usage struct {
	cpu time.Duration
	rss int64 // bytes, at the end
}

// watchProcesses notes the CPU times of the targets' processes. The returned
// function says what each has taken since, nil for those without a process.
func watchProcesses(targets []Target) (since func() []*usage, err error) {
	before := make([]time.Duration, len(targets))
	for i, t := range targets {
		if t.PID > 0 {
			if before[i], err = cpuTime(t.PID); err != nil {
				return nil, fmt.Errorf("process %d of %s: %w", t.PID, t.Name, err)
			}
		}
	}
	return func() []*usage {
		all := make([]*usage, len(targets))
		for i, t := range targets {
			if t.PID == 0 {
				continue
			}
			cpu, err := cpuTime(t.PID)
			rss, rssErr := residentSet(t.PID)
			if errors.Join(err, rssErr) == nil { // else it is gone, and its counters with it
				all[i] = &usage{cpu: cpu - before[i], rss: rss}
			}
		}
		return all
	}, nil
}

// cpuTime is a process's user and system time.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th
	// and 13th fields after it.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err, err2)
}

// residentSet is a process's memory in bytes.
func residentSet(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm has %d fields", pid, len(fields))
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
