package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	magic        = "KVSRpeer"
	requestMagic = 0x51525650
	frameMagic   = 0x46525650
	version      = 1

	sumBytes     = 8
	nonceBytes   = 16
	proofBytes   = sha256.Size
	helloBytes   = 8 + 4 + 4 + 16 + nonceBytes + sumBytes
	answerBytes  = 8 + 4 + 4 + nonceBytes + proofBytes + sumBytes
	requestBytes = 4 + 4 // before the hashes
	frameBytes   = 4 + 4 + 8 + 16 + sumBytes + sumBytes

	// MaxRequest bounds the blocks of one request.
	MaxRequest = 1024
)

// errGarbled means that what came is not what this protocol says.
var errGarbled = errors.New("the peer's bytes are not in this protocol, or were damaged on the way")

// verdict is how a server answers a hello or a hash.
type verdict uint32

const (
	granted     verdict = iota + 1 // welcome; here is the block
	absent                         // this block is not here
	otherLayout                    // blocks here are laid out in another way
	busy                           // too many connections
)

// refusal is what a client says of a verdict on its hello.
func (v verdict) refusal() error {
	switch v {
	case granted:
		return nil
	case otherLayout:
		return errors.New("the peer's blocks have another layout: it serves another model, dtype or block size")
	case busy:
		return errors.New("the peer has as many connections as it takes")
	}
	return fmt.Errorf("%w: verdict %d", errGarbled, v)
}

// seal appends the sum of all of b.
func seal(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b)) }

// sealed reports whether b ends with the sum of what is before.
func sealed(b []byte) bool {
	body := b[:len(b)-sumBytes]
	return xxh3.Hash(body) == binary.LittleEndian.Uint64(b[len(body):])
}

type nonce [nonceBytes]byte

// hello is what a client begins with.
type hello struct {
	version     uint32
	blockBytes  uint32
	fingerprint kv.Hash
	nonce       nonce
}

func (h hello) encode() []byte {
	b := append(make([]byte, 0, helloBytes), magic...)
	b = binary.LittleEndian.AppendUint32(b, h.version)
	b = binary.LittleEndian.AppendUint32(b, h.blockBytes)
	b = append(b, h.fingerprint[:]...)
	return seal(append(b, h.nonce[:]...))
}

func parseHello(b []byte) (h hello, err error) {
	if len(b) != helloBytes || string(b[:8]) != magic || !sealed(b) {
		return h, errGarbled
	}
	return hello{
		version:     binary.LittleEndian.Uint32(b[8:]),
		blockBytes:  binary.LittleEndian.Uint32(b[12:]),
		fingerprint: kv.Hash(b[16:32]),
		nonce:       nonce(b[32:48]),
	}, nil
}

// answer is what a server says to a hello.
type answer struct {
	version uint32
	verdict verdict
	nonce   nonce
	proof   [proofBytes]byte
}

func (a answer) encode() []byte {
	b := append(make([]byte, 0, answerBytes), magic...)
	b = binary.LittleEndian.AppendUint32(b, a.version)
	b = binary.LittleEndian.AppendUint32(b, uint32(a.verdict))
	b = append(b, a.nonce[:]...)
	return seal(append(b, a.proof[:]...))
}

func parseAnswer(b []byte) (a answer, err error) {
	if len(b) != answerBytes || string(b[:8]) != magic || !sealed(b) {
		return a, errGarbled
	}
	return answer{
		version: binary.LittleEndian.Uint32(b[8:]),
		verdict: verdict(binary.LittleEndian.Uint32(b[12:])),
		nonce:   nonce(b[16:32]),
		proof:   [proofBytes]byte(b[32:64]),
	}, nil
}

// prove is one side's proof that it has the secret and means this conversation.
func prove(secret, side string, h hello, a answer) [proofBytes]byte {
	a.proof = [proofBytes]byte{}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("kvasir/peer/1 " + side + "\x00"))
	mac.Write(h.encode())
	mac.Write(a.encode())
	return [proofBytes]byte(mac.Sum(nil))
}

// encodeRequest appends a request to b.
func encodeRequest(b []byte, hashes []kv.Hash) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, requestMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(hashes)))
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b[start:]))
}

// readRequest reads one request into the memory of hashes and of b.
func readRequest(r io.Reader, hashes []kv.Hash, b []byte) ([]kv.Hash, []byte, error) {
	b = append(b[:0], make([]byte, requestBytes)...)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, b, err
	}
	count := int(binary.LittleEndian.Uint32(b[4:]))
	if binary.LittleEndian.Uint32(b) != requestMagic || count < 1 || count > MaxRequest {
		return nil, b, errGarbled
	}
	b = append(b, make([]byte, count*len(kv.Hash{})+sumBytes)...)
	if _, err := io.ReadFull(r, b[requestBytes:]); err != nil {
		return nil, b, err
	}
	if !sealed(b) {
		return nil, b, errGarbled
	}
	hashes = hashes[:0]
	for rest := b[requestBytes : len(b)-sumBytes]; len(rest) > 0; rest = rest[len(kv.Hash{}):] {
		hashes = append(hashes, kv.Hash(rest))
	}
	return hashes, b, nil
}

// frame goes before a block's bytes.
type frame struct {
	verdict verdict
	length  uint64
	hash    kv.Hash
	sum     uint64 // of the bytes
}

// encode writes the frame to b, which has frameBytes.
func (f frame) encode(b []byte) {
	b = binary.LittleEndian.AppendUint32(b[:0], frameMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(f.verdict))
	b = binary.LittleEndian.AppendUint64(b, f.length)
	b = append(b, f.hash[:]...)
	_ = seal(binary.LittleEndian.AppendUint64(b, f.sum))
}

func parseFrame(b []byte) (f frame, err error) {
	if len(b) != frameBytes || binary.LittleEndian.Uint32(b) != frameMagic || !sealed(b) {
		return f, errGarbled
	}
	return frame{
		verdict: verdict(binary.LittleEndian.Uint32(b[4:])),
		length:  binary.LittleEndian.Uint64(b[8:]),
		hash:    kv.Hash(b[16:32]),
		sum:     binary.LittleEndian.Uint64(b[32:]),
	}, nil
}
