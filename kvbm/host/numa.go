package host

import (
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	mpolInterleave = 3
	maxNodes       = 64
)

// spread lays memory out over all nodes of a machine that has several, page by
// page: the threads that copy run on any of them, and one node's channels are a
// fraction of the machine's. Without it the pages would come from the node of
// whoever touches them first. It is a wish: where the kernel refuses, the pool
// works the same.
func spread(data []byte) {
	online, err := os.ReadFile("/sys/devices/system/node/online")
	if err != nil {
		return
	}
	if mask, n := parseNodes(string(online)); n > 1 {
		_ = interleave(data, mask)
	}
}

func interleave(data []byte, mask uint64) error {
	_, _, errno := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		mpolInterleave, uintptr(unsafe.Pointer(&mask)), maxNodes+1, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// parseNodes reads the kernel's list form, "0-1,4", into a bit for each node.
func parseNodes(list string) (mask uint64, n int) {
	for _, part := range strings.Split(strings.TrimSpace(list), ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || from < 0 || to >= maxNodes {
			return 0, 0
		}
		for i := from; i <= to; i++ {
			mask |= 1 << i
			n++
		}
	}
	return mask, n
}
