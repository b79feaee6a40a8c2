// Package msgpack is a Codec for invalidation.Cache that is shorter and faster than JSON. It is a package of its own, so that
// who does not use it does not link it.
//
//	users, err := invalidation.NewCache(node, invalidation.CacheConfig[User]{Dataset: "users", Load: loadUser, Codec: msgpack.Codec[User]{}})
//
// Fields are named as msgpack tags say, else as json tags say, else as in Go. What the reader does not know is skipped, and
// what the writer did not know stays zero, so fields may be added and removed while nodes of both kinds run.
package msgpack

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// ErrDecode: what was read is not a value of the type. It does not say more, because the decoder's words may quote the value.
var ErrDecode = errors.New("value is not MessagePack of its type")

// Codec writes values of V as MessagePack. Times keep their instant, to the nanosecond, and come back in local time.
type Codec[V any] struct{}

// Name is msgpack.
func (Codec[V]) Name() string { return "msgpack" }

// Encode returns v as MessagePack.
func (Codec[V]) Encode(v V) ([]byte, error) {
	var b bytes.Buffer
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	e.Reset(&b)
	e.SetCustomStructTag("json")
	e.UseCompactInts(true)
	if err := e.Encode(&v); err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads MessagePack, all of data.
func (Codec[V]) Decode(data []byte) (v V, err error) {
	r := bytes.NewReader(data)
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(r)
	d.SetCustomStructTag("json")
	if err := d.Decode(&v); err != nil || r.Len() > 0 {
		var zero V
		return zero, ErrDecode
	}
	return v, nil
}
