package discovery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
)

// sealed is a registration that only who knows the fleet's secret can make. The
// key is sealed with it, so one worker's cannot be put under another's name.
type sealed struct {
	Worker json.RawMessage `json:"worker"`
	Seal   []byte          `json:"seal"`
}

// seal closes a registration; without a secret it stays open.
func seal(secret []byte, key string, worker []byte) ([]byte, error) {
	if len(secret) == 0 {
		return worker, nil
	}
	return json.Marshal(sealed{worker, mac(secret, key, worker)})
}

// unseal is the registration that a value holds.
func unseal(secret []byte, key string, value []byte) ([]byte, error) {
	if len(secret) == 0 {
		return value, nil
	}
	var s sealed
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	if !hmac.Equal(s.Seal, mac(secret, key, s.Worker)) {
		return nil, errors.New("it is not sealed with this fleet's secret: a stranger's, or a worker without fleet.secret")
	}
	return s.Worker, nil
}

func mac(secret []byte, key string, worker []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("kvasir registration\x00" + key + "\x00"))
	h.Write(worker)
	return h.Sum(nil)
}
