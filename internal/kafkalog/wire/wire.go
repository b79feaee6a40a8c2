// Package wire reads the integers, strings and arrays of Kafka's protocol from a frame.
package wire

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is returned, wrapped, when a frame cannot be what was asked for: a wrong length, another request's
// correlation id, or fields that overrun their frame.
var ErrMalformed = errors.New("malformed reply")

// Reader reads Kafka's integers, big endian, from a frame. After an overrun Err is set and everything reads as zero.
type Reader struct {
	// Rest is what has not been read yet.
	Rest []byte
	// Err is ErrMalformed after an overrun.
	Err error
}

// Take returns the next n bytes, nil after an overrun.
func (r *Reader) Take(n int) []byte {
	if r.Err != nil || n < 0 || n > len(r.Rest) {
		r.Err = ErrMalformed
		return nil
	}
	x := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return x
}

// I8 reads one byte.
func (r *Reader) I8() int8 {
	if x := r.Take(1); x != nil {
		return int8(x[0])
	}
	return 0
}

// I16 reads two bytes.
func (r *Reader) I16() int16 {
	if x := r.Take(2); x != nil {
		return int16(binary.BigEndian.Uint16(x))
	}
	return 0
}

// I32 reads four bytes.
func (r *Reader) I32() int32 {
	if x := r.Take(4); x != nil {
		return int32(binary.BigEndian.Uint32(x))
	}
	return 0
}

// I64 reads eight bytes.
func (r *Reader) I64() int64 {
	if x := r.Take(8); x != nil {
		return int64(binary.BigEndian.Uint64(x))
	}
	return 0
}

// Varint reads a zigzag varint; one byte is by far the usual case.
func (r *Reader) Varint() int64 {
	if r.Err == nil && len(r.Rest) > 0 && r.Rest[0] < 0x80 {
		u := r.Rest[0]
		r.Rest = r.Rest[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	return r.longVarint()
}

func (r *Reader) longVarint() int64 {
	if r.Err != nil {
		return 0
	}
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Err = ErrMalformed
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Uvarint reads an unsigned varint that fits an int32, as compact lengths do.
func (r *Reader) Uvarint() int {
	if r.Err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 || v > 1<<31-1 {
		r.Err = ErrMalformed
		return 0
	}
	r.Rest = r.Rest[n:]
	return int(v)
}

// Count reads how many elements follow. Each takes at least one byte, so no more than the frame holds are believed.
func (r *Reader) Count(n int32) int {
	if int(n) > len(r.Rest) {
		r.Err = ErrMalformed
		return 0
	}
	return max(int(n), 0)
}

// CompactCount is Count for a compact array, whose length is written plus one; null counts as none.
func (r *Reader) CompactCount() int { return r.Count(int32(r.Uvarint() - 1)) }

// CompactText reads a compact string; null reads as "".
func (r *Reader) CompactText() string {
	n := r.Uvarint()
	if n <= 1 {
		return ""
	}
	return string(r.Take(n - 1))
}

// Text reads a string with a length of two bytes; null reads as "".
func (r *Reader) Text() string {
	n := r.I16()
	if n <= 0 {
		return ""
	}
	return string(r.Take(int(n)))
}

// SkipTags passes over tagged fields.
func (r *Reader) SkipTags() {
	for n := r.Uvarint(); n > 0 && r.Err == nil; n-- {
		r.Uvarint()
		r.Take(r.Uvarint())
	}
}
