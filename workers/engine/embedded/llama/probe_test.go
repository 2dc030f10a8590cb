package llama

import (
	"sync/atomic"
	"time"
)

var sink atomic.Uint64

func seconds(f func()) float64 {
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}
