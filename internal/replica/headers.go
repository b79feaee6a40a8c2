package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/freshet/freshet/schemas"
)

// headerOverhead bounds the bytes that a header needs beside its key and value.
const headerOverhead = 2 * binary.MaxVarintLen64

// EncodeHeaders writes a record's headers for the letters' table, exactly and in order:
//
//	header:  uvarint length of key | key | uvarint 0: no value
//	                                     | uvarint length of value + 1 | value
func EncodeHeaders(headers []schemas.Header) []byte {
	b := []byte{}
	for _, h := range headers {
		b = binary.AppendUvarint(b, uint64(len(h.Key)))
		b = append(b, h.Key...)
		if h.Value == nil {
			b = binary.AppendUvarint(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(h.Value))+1)
		b = append(b, h.Value...)
	}
	return b
}

// DecodeHeaders reads what EncodeHeaders wrote. Values are slices of b.
func DecodeHeaders(b []byte) ([]schemas.Header, error) {
	var headers []schemas.Header
	for len(b) > 0 {
		key, rest, err := headerPart(b, 0)
		if err != nil {
			return nil, err
		}
		value, rest, err := headerPart(rest, 1)
		if err != nil {
			return nil, err
		}
		headers = append(headers, schemas.Header{Key: string(key), Value: value})
		b = rest
	}
	return headers, nil
}

// headerPart reads a length and as many bytes; the length was written plus bias, and 0 with a bias means nil.
func headerPart(b []byte, bias uint64) (part, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 {
		return nil, nil, fmt.Errorf("decode headers: bad length: %w", schemas.ErrInvalid)
	}
	b = b[used:]
	if n < bias {
		return nil, b, nil
	}
	n -= bias
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("decode headers: cut short: %w", schemas.ErrInvalid)
	}
	return b[:n:n], b[n:], nil
}
