package kafkalog

import "encoding/binary"

// wire reads Kafka's integers, big endian, from a frame. After an overrun err is set and everything reads as zero.
type wire struct {
	b   []byte
	err error
}

// take gives the next n bytes, nil after an overrun.
func (w *wire) take(n int) []byte {
	if w.err != nil || n < 0 || n > len(w.b) {
		w.err = errFrame
		return nil
	}
	x := w.b[:n:n]
	w.b = w.b[n:]
	return x
}

func (w *wire) i8() int8 {
	if x := w.take(1); x != nil {
		return int8(x[0])
	}
	return 0
}

func (w *wire) i16() int16 {
	if x := w.take(2); x != nil {
		return int16(binary.BigEndian.Uint16(x))
	}
	return 0
}

func (w *wire) i32() int32 {
	if x := w.take(4); x != nil {
		return int32(binary.BigEndian.Uint32(x))
	}
	return 0
}

func (w *wire) i64() int64 {
	if x := w.take(8); x != nil {
		return int64(binary.BigEndian.Uint64(x))
	}
	return 0
}

// varint reads a zigzag varint; one byte is by far the usual case.
func (w *wire) varint() int64 {
	if w.err == nil && len(w.b) > 0 && w.b[0] < 0x80 {
		u := w.b[0]
		w.b = w.b[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	return w.longVarint()
}

func (w *wire) longVarint() int64 {
	if w.err != nil {
		return 0
	}
	v, n := binary.Varint(w.b)
	if n <= 0 {
		w.err = errFrame
		return 0
	}
	w.b = w.b[n:]
	return v
}

// uvarint reads an unsigned varint that fits an int32, as compact lengths do.
func (w *wire) uvarint() int {
	if w.err != nil {
		return 0
	}
	v, n := binary.Uvarint(w.b)
	if n <= 0 || v > 1<<31-1 {
		w.err = errFrame
		return 0
	}
	w.b = w.b[n:]
	return int(v)
}

// count reads how many elements follow. Each takes at least one byte, so no more than the frame holds are believed.
func (w *wire) count(n int32) int {
	if int(n) > len(w.b) {
		w.err = errFrame
		return 0
	}
	return max(int(n), 0)
}

// compactCount is count for a compact array, whose length is written plus one; null counts as none.
func (w *wire) compactCount() int { return w.count(int32(w.uvarint() - 1)) }

// compactString reads a compact string; null reads as "".
func (w *wire) compactString() string {
	n := w.uvarint()
	if n <= 1 {
		return ""
	}
	return string(w.take(n - 1))
}

// string reads a string with a length of two bytes; null reads as "".
func (w *wire) string() string {
	n := w.i16()
	if n <= 0 {
		return ""
	}
	return string(w.take(int(n)))
}

// skipTags passes over tagged fields.
func (w *wire) skipTags() {
	for n := w.uvarint(); n > 0 && w.err == nil; n-- {
		w.uvarint()
		w.take(w.uvarint())
	}
}
