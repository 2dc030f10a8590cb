//go:build goexperiment.simd && amd64

package kv

import "simd/archsimd"

// chainQuickly is Chain on processors with instructions for SHA-256, for the
// block sizes that engines use. Package crypto/sha256 has the same instructions,
// but reads its message from memory, where the hash before has to arrive first,
// and hashes through a digest: a third of the time of a block of 16 tokens. It
// reports false where it cannot be used.
func chainQuickly(dst []Hash, root Hash, tokens []uint32, blockSize int) ([]Hash, bool) {
	if !hasSHA || blockSize%4 != 0 {
		return dst, false
	}
	before := archsimd.LoadUint8x16((*[16]byte)(&root))
	for ; len(tokens) >= blockSize; tokens = tokens[blockSize:] {
		before = childQuickly(before, tokens[:blockSize])
		dst = append(dst, Hash{})
		before.Store((*[16]byte)(&dst[len(dst)-1]))
	}
	return dst, true
}

var hasSHA = archsimd.X86.SHA() && archsimd.X86.AVX()

// Vectors of 16 bytes of a message. The domain takes 15 bytes, so that a hash and
// vectors of four tokens are all shifted by one, and the byte that ends the
// message is the last of its vector.
var (
	domainBytes = [16]byte([]byte("\xFF" + domain)) // the first one is shifted out
	endBytes    = [16]byte{0x80}
	bigEndian   = [16]int8{3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12}
)

// childQuickly is Hash.Child for a multiple of four tokens.
func childQuickly(parent archsimd.Uint8x16, tokens []uint32) archsimd.Uint8x16 {
	swap := archsimd.LoadInt8x16(&bigEndian)
	end := archsimd.LoadUint8x16(&endBytes)
	words := func(b, next archsimd.Uint8x16) archsimd.Uint32x4 {
		return next.ConcatShiftBytesRight(1, b).PermuteOrZero(swap).AsUint32x4()
	}
	var length [4]uint32
	length[3] = uint32(8 * (len(domain) + len(Hash{}) + 4*len(tokens)))

	s := newSHA()
	last := parent // read, and all but its first byte still to come
	w0 := words(archsimd.LoadUint8x16(&domainBytes), parent)
	w1 := w0
	ended := false
	next := func() archsimd.Uint32x4 {
		var b archsimd.Uint8x16
		switch {
		case len(tokens) > 0:
			b = archsimd.LoadUint32x4((*[4]uint32)(tokens)).AsUint8x16()
			tokens = tokens[4:]
		case !ended:
			b, ended = end, true
		default:
			return archsimd.Uint32x4{}
		}
		w := words(last, b)
		last = b
		return w
	}
	for first := true; ; first = false {
		if !first {
			w0 = next()
		}
		w1 = next()
		w2 := next()
		if ended {
			s.block(w0, w1, w2, archsimd.LoadUint32x4(&length))
			return s.half().PermuteOrZero(swap)
		}
		s.block(w0, w1, w2, next())
	}
}

// sha is the state of SHA-256, in the order in which the instructions want it.
type sha struct{ abef, cdgh archsimd.Uint32x4 }

var (
	firstABEF = [4]uint32{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667}
	firstCDGH = [4]uint32{0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}
)

func newSHA() sha {
	return sha{archsimd.LoadUint32x4(&firstABEF), archsimd.LoadUint32x4(&firstCDGH)}
}

// half is the first half of the digest, as words.
func (s *sha) half() archsimd.Uint8x16 {
	return s.abef.SelectFromPair(3, 2, 7, 6, s.cdgh).AsUint8x16()
}

// roundKeys are SHA-256's, four rounds a row.
var roundKeys = [16][4]uint32{
	{0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5},
	{0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5},
	{0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3},
	{0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174},
	{0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc},
	{0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da},
	{0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7},
	{0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967},
	{0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13},
	{0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85},
	{0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3},
	{0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070},
	{0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5},
	{0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3},
	{0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208},
	{0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2},
}

// block adds 64 bytes of the message. Each line is four rounds; from the fourth
// on the words of four later ones are made meanwhile.
func (s *sha) block(w0, w1, w2, w3 archsimd.Uint32x4) {
	abef, cdgh := s.abef, s.cdgh
	abef, cdgh = fourRounds(abef, cdgh, w0, &roundKeys[0])
	w0 = schedule(w0, w1, w2, w3)
	abef, cdgh = fourRounds(abef, cdgh, w1, &roundKeys[1])
	w1 = schedule(w1, w2, w3, w0)
	abef, cdgh = fourRounds(abef, cdgh, w2, &roundKeys[2])
	w2 = schedule(w2, w3, w0, w1)
	abef, cdgh = fourRounds(abef, cdgh, w3, &roundKeys[3])
	w3 = schedule(w3, w0, w1, w2)
	abef, cdgh = fourRounds(abef, cdgh, w0, &roundKeys[4])
	w0 = schedule(w0, w1, w2, w3)
	abef, cdgh = fourRounds(abef, cdgh, w1, &roundKeys[5])
	w1 = schedule(w1, w2, w3, w0)
	abef, cdgh = fourRounds(abef, cdgh, w2, &roundKeys[6])
	w2 = schedule(w2, w3, w0, w1)
	abef, cdgh = fourRounds(abef, cdgh, w3, &roundKeys[7])
	w3 = schedule(w3, w0, w1, w2)
	abef, cdgh = fourRounds(abef, cdgh, w0, &roundKeys[8])
	w0 = schedule(w0, w1, w2, w3)
	abef, cdgh = fourRounds(abef, cdgh, w1, &roundKeys[9])
	w1 = schedule(w1, w2, w3, w0)
	abef, cdgh = fourRounds(abef, cdgh, w2, &roundKeys[10])
	w2 = schedule(w2, w3, w0, w1)
	abef, cdgh = fourRounds(abef, cdgh, w3, &roundKeys[11])
	w3 = schedule(w3, w0, w1, w2)
	abef, cdgh = fourRounds(abef, cdgh, w0, &roundKeys[12])
	abef, cdgh = fourRounds(abef, cdgh, w1, &roundKeys[13])
	abef, cdgh = fourRounds(abef, cdgh, w2, &roundKeys[14])
	abef, cdgh = fourRounds(abef, cdgh, w3, &roundKeys[15])
	s.abef, s.cdgh = s.abef.Add(abef), s.cdgh.Add(cdgh)
}

func fourRounds(abef, cdgh, w archsimd.Uint32x4, k *[4]uint32) (archsimd.Uint32x4, archsimd.Uint32x4) {
	w = w.Add(archsimd.LoadUint32x4(k))
	cdgh = cdgh.SHA256TwoRounds(abef, w)
	return abef.SHA256TwoRounds(cdgh, w.PermuteScalars(2, 3, 2, 3)), cdgh
}

// schedule is the four words that follow the sixteen given.
func schedule(w0, w1, w2, w3 archsimd.Uint32x4) archsimd.Uint32x4 {
	nine := w3.AsUint8x16().ConcatShiftBytesRight(4, w2.AsUint8x16()).AsUint32x4()
	return w0.SHA256Message1(w1).Add(nine).SHA256Message2(w3)
}
