// Package recordbatch writes and reads Kafka's record batches, format 2. All integers are big endian, varints are zigzag.
//
//	 0 base offset i64 | 8 length i32, of what follows | 12 leader epoch i32 | 16 magic i8 | 17 crc32c u32, of what follows
//	21 attributes i16 | 23 last offset delta i32 | 27 base time i64 | 35 max time i64 | 43 producer id i64
//	51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//
//	record  length varint | attributes i8 | time delta varint | offset delta varint | key length varint, -1 nil, key
//	        | value likewise | headers varint × { key length varint, key | value length varint, -1 nil, value }
package recordbatch

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrCorrupt is returned, wrapped, when a record batch is not what its producer wrote, or is written in a way that cannot
// be read. The text states the offset.
var ErrCorrupt = errors.New("corrupt or unsupported record batch")

// Where the fields of a batch's header begin.
const (
	atLength        = 8
	atLeaderEpoch   = 12
	atMagic         = 16
	atChecksum      = 17
	atAttributes    = 21
	atLastDelta     = 23
	atBaseTime      = 27
	atMaxTime       = 35
	atProducer      = 43
	atProducerEpoch = 51
	atSequence      = 53
	atCount         = 57
	headerSize      = 61
)

const (
	magic = 2
	// lengthBias is what the length field does not count: itself and what precedes it.
	lengthBias = 12
	// noLeaderEpoch is what a producer writes; the broker fills it in.
	noLeaderEpoch = 0xffffffff

	attrCodec         = 0x07
	attrLogAppend     = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

// checksum covers a batch from its attributes on. MakeTable returns the shared table of this polynomial, with hardware
// behind it.
func checksum(b []byte) uint32 {
	return crc32.Checksum(b[atAttributes:], crc32.MakeTable(crc32.Castagnoli))
}

// Compression is how the records of a batch are packed. The values are Kafka's.
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
