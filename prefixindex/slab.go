package prefixindex

import "sync/atomic"

// slabChunk is the number of elements that a slab grows by.
const slabChunk = 1 << 12

// slab is an array that grows without moving, so that readers may follow an
// index into it at any time. Elements hold no pointers: the garbage collector
// never looks into them.
type slab[T any] struct {
	chunks atomic.Pointer[[]*[slabChunk]T]
	used   uint32 // elements handed out by grow; writer only
}

func (s *slab[T]) at(i uint32) *T {
	return &(*s.chunks.Load())[i/slabChunk][i%slabChunk]
}

// grow hands out n more elements, all in one chunk; n divides slabChunk.
func (s *slab[T]) grow(n uint32) uint32 {
	i := s.used
	if i%slabChunk == 0 {
		var chunks []*[slabChunk]T
		if old := s.chunks.Load(); old != nil {
			chunks = *old
		}
		// Readers hold on to the old slice header; the array behind it may be
		// shared because only elements beyond their length are written.
		chunks = append(chunks, new([slabChunk]T))
		s.chunks.Store(&chunks)
	}
	s.used += n
	return i
}

// chunkCount is the number of chunks allocated.
func (s *slab[T]) chunkCount() int {
	if c := s.chunks.Load(); c != nil {
		return len(*c)
	}
	return 0
}
