package kafkalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/schemas"
)

// Compression says how the records of a batch are packed. The values are Kafka's.
type Compression int8

// The compressions that every broker takes. The zero value is none.
const (
	CompressionNone   Compression = 0
	CompressionGzip   Compression = 1
	CompressionSnappy Compression = 2
	CompressionLZ4    Compression = 3
	CompressionZstd   Compression = 4
)

// ParseCompression reads "", "none", "gzip", "snappy", "lz4" or "zstd".
func ParseCompression(s string) (Compression, error) {
	switch s {
	case "", "none":
		return CompressionNone, nil
	case "gzip":
		return CompressionGzip, nil
	case "snappy":
		return CompressionSnappy, nil
	case "lz4":
		return CompressionLZ4, nil
	case "zstd":
		return CompressionZstd, nil
	}
	return 0, fmt.Errorf("check compression %q: want none, gzip, snappy, lz4 or zstd", s)
}

// Layout of a record batch, format 2. All integers are big endian; varints are zigzag.
//
//	 0 baseOffset i64 | 8 length i32 (the rest after this field) | 12 leaderEpoch i32 | 16 magic i8
//	17 crc u32 (Castagnoli, of 21…) | 21 attributes i16 | 23 lastOffsetDelta i32 | 27 baseTime i64
//	35 maxTime i64 | 43 producerID i64 | 51 producerEpoch i16 | 53 baseSequence i32 | 57 count i32 | 61 records
//
//	record: length varint | attributes i8 | timeDelta varint | offsetDelta varint | key varint len (-1 nil), key
//	        | value varint len (-1 nil), value | headers varint × { key len, key | value len (-1 nil), value }
const (
	batchHeaderSize = 61
	// setPrefix is the length field of a record set in a request; the encoder writes it, so that nothing is copied.
	setPrefix  = 4
	batchMagic = 2
	// batchLengthBias is what the length field does not count: itself and what lies before it.
	batchLengthBias = 12
	// noLeaderEpoch is what a producer writes; the broker fills it in.
	noLeaderEpoch = 0xffffffff
)

// producerState is what makes a batch idempotent at the broker: who wrote it, and where it lies in that writer's
// sequence of the partition.
type producerState struct {
	id       int64
	epoch    int16
	sequence int32
}

// advance moves past n records. Sequences wrap within 31 bits.
func (s *producerState) advance(n int) {
	s.sequence = int32((uint32(s.sequence) + uint32(n)) & 0x7fffffff)
}

// batchEncoder writes one batch at a time: begin, add for each record, finish. Its buffers are used again, so without
// compression a record costs no allocation once they have grown.
type batchEncoder struct {
	codec   Compression
	buf     []byte // header and records of the batch, uncompressed
	packed  []byte // the same with compressed records
	base    int64  // time of the first record
	maxTime int64
	count   int
}

// begin drops what was there.
func (e *batchEncoder) begin() {
	if e.buf == nil {
		e.buf = make([]byte, setPrefix+batchHeaderSize, 4096)
	}
	e.buf = e.buf[:setPrefix+batchHeaderSize]
	e.count = 0
}

// add appends a record whose broker-side time is time (Unix ms).
func (e *batchEncoder) add(r *schemas.Record, time int64) {
	if e.count == 0 {
		e.base, e.maxTime = time, time
	}
	e.maxTime = max(e.maxTime, time)
	dt, do := time-e.base, int64(e.count)
	b := binary.AppendVarint(e.buf, int64(recordBodySize(r, dt, do)))
	b = append(b, 0)
	b = binary.AppendVarint(b, dt)
	b = binary.AppendVarint(b, do)
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		b = binary.AppendVarint(b, int64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendBytes(b, h.Value)
	}
	e.buf = b
	e.count++
}

// finish gives the record set of a request: its length and the batch, valid until the next begin. There must be a record.
func (e *batchEncoder) finish(s producerState) ([]byte, error) {
	if e.count == 0 {
		return nil, errors.New("encode batch: no record")
	}
	set, attributes := e.buf, uint16(0)
	if e.codec != CompressionNone {
		if err := e.pack(); err != nil {
			return nil, fmt.Errorf("compress batch: %w", err)
		}
		set, attributes = e.packed, uint16(e.codec)
	}
	p := set[setPrefix:]
	binary.BigEndian.PutUint32(set, uint32(len(p)))
	binary.BigEndian.PutUint64(p[0:], 0)
	binary.BigEndian.PutUint32(p[8:], uint32(len(p)-batchLengthBias))
	binary.BigEndian.PutUint32(p[12:], noLeaderEpoch)
	p[16] = batchMagic
	binary.BigEndian.PutUint16(p[21:], attributes)
	binary.BigEndian.PutUint32(p[23:], uint32(e.count-1))
	binary.BigEndian.PutUint64(p[27:], uint64(e.base))
	binary.BigEndian.PutUint64(p[35:], uint64(e.maxTime))
	binary.BigEndian.PutUint64(p[43:], uint64(s.id))
	binary.BigEndian.PutUint16(p[51:], uint16(s.epoch))
	binary.BigEndian.PutUint32(p[53:], uint32(s.sequence))
	binary.BigEndian.PutUint32(p[57:], uint32(e.count))
	// MakeTable gives the one shared table of this polynomial, with hardware behind it.
	binary.BigEndian.PutUint32(p[17:], crc32.Checksum(p[21:], crc32.MakeTable(crc32.Castagnoli)))
	return set, nil
}

// pack compresses the records into packed, behind room for a header.
func (e *batchEncoder) pack() error {
	codec := compress.Compression(e.codec).Codec()
	if codec == nil {
		return fmt.Errorf("unknown codec %d", e.codec)
	}
	e.packed = append(e.packed[:0], e.buf[:setPrefix+batchHeaderSize]...)
	w := codec.NewWriter((*packedWriter)(e))
	_, err := w.Write(e.buf[setPrefix+batchHeaderSize:])
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

// packedWriter appends to an encoder's packed buffer.
type packedWriter batchEncoder

var _ io.Writer = (*packedWriter)(nil)

func (w *packedWriter) Write(p []byte) (int, error) {
	w.packed = append(w.packed, p...)
	return len(p), nil
}

// recordSize is at least what the record takes in a batch without compression.
func recordSize(r *schemas.Record) int {
	n := recordBodySize(r, 1<<40, maxSequenceDelta)
	return n + varintLen(int64(n))
}

// maxSequenceDelta is an offset delta that no batch reaches.
const maxSequenceDelta = 1 << 30

// recordBodySize is the length of a record after its length field.
func recordBodySize(r *schemas.Record, timeDelta, offsetDelta int64) int {
	n := 1 + varintLen(timeDelta) + varintLen(offsetDelta) + bytesLen(r.Key) + bytesLen(r.Value)
	n += varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	return n
}

// appendBytes writes a nullable byte string: nil is not the same as empty.
func appendBytes(b, v []byte) []byte {
	if v == nil {
		return append(b, 1) // zigzag of -1
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

func bytesLen(v []byte) int {
	if v == nil {
		return 1
	}
	return varintLen(int64(len(v))) + len(v)
}

// varintLen is the length of v as a zigzag varint.
func varintLen(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

// PartitionOf gives the partition of a key as Java's default partitioner does, so that every producer of a topic agrees.
func PartitionOf(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is the 32-bit MurmurHash 2 with Kafka's seed.
func murmur2(b []byte) uint32 {
	const (
		seed  = 0x9747b28c
		m     = 0x5bd1e995
		shift = 24
	)
	h := uint32(seed) ^ uint32(len(b))
	for len(b) >= 4 {
		k := binary.LittleEndian.Uint32(b) * m
		k = (k ^ k>>shift) * m
		h = h*m ^ k
		b = b[4:]
	}
	for i := len(b) - 1; i >= 0; i-- {
		h ^= uint32(b[i]) << (8 * i)
		if i == 0 {
			h *= m
		}
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
