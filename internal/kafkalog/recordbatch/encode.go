package recordbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/schemas"
)

// setPrefix is the length field of a record set in a request; the encoder writes it, so that nothing is copied.
const setPrefix = 4

// Producer is what makes a batch idempotent at the broker: who wrote it, and its place in that writer's sequence of the
// partition.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32
}

// Advance moves past n records. Sequences wrap within 31 bits.
func (p *Producer) Advance(n int) {
	p.Sequence = int32((uint32(p.Sequence) + uint32(n)) & 0x7fffffff)
}

// Encoder writes one batch at a time: Begin, Add for each record, Finish. Its buffers are used again, so without
// compression a record costs no allocation once they have grown. The zero value is ready.
type Encoder struct {
	// Codec packs the records.
	Codec Compression

	buf     []byte // header and records of the batch, uncompressed
	packed  []byte // the same with compressed records
	base    int64  // time of the first record
	maxTime int64
	count   int
}

// Begin drops what was there.
func (e *Encoder) Begin() {
	if e.buf == nil {
		e.buf = make([]byte, setPrefix+headerSize, 4096)
	}
	e.buf = e.buf[:setPrefix+headerSize]
	e.count = 0
}

// Add appends a record whose broker-side time is time (Unix ms).
func (e *Encoder) Add(r *schemas.Record, time int64) {
	if e.count == 0 {
		e.base, e.maxTime = time, time
	}
	e.maxTime = max(e.maxTime, time)
	dt, do := time-e.base, int64(e.count)
	b := binary.AppendVarint(e.buf, int64(bodySize(r, dt, do)))
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

// Finish returns the record set of a request: its length and the batch, valid until the next Begin. There must be a record.
func (e *Encoder) Finish(by Producer) ([]byte, error) {
	if e.count == 0 {
		return nil, errors.New("encode batch: no record")
	}
	set, attributes := e.buf, uint16(0)
	if e.Codec != CompressionNone {
		if err := e.pack(); err != nil {
			return nil, fmt.Errorf("compress batch: %w", err)
		}
		set, attributes = e.packed, uint16(e.Codec)
	}
	p := set[setPrefix:]
	binary.BigEndian.PutUint32(set, uint32(len(p)))
	binary.BigEndian.PutUint64(p, 0)
	binary.BigEndian.PutUint32(p[atLength:], uint32(len(p)-lengthBias))
	binary.BigEndian.PutUint32(p[atLeaderEpoch:], noLeaderEpoch)
	p[atMagic] = magic
	binary.BigEndian.PutUint16(p[atAttributes:], attributes)
	binary.BigEndian.PutUint32(p[atLastDelta:], uint32(e.count-1))
	binary.BigEndian.PutUint64(p[atBaseTime:], uint64(e.base))
	binary.BigEndian.PutUint64(p[atMaxTime:], uint64(e.maxTime))
	binary.BigEndian.PutUint64(p[atProducer:], uint64(by.ID))
	binary.BigEndian.PutUint16(p[atProducerEpoch:], uint16(by.Epoch))
	binary.BigEndian.PutUint32(p[atSequence:], uint32(by.Sequence))
	binary.BigEndian.PutUint32(p[atCount:], uint32(e.count))
	binary.BigEndian.PutUint32(p[atChecksum:], checksum(p))
	return set, nil
}

// pack compresses the records into packed, behind room for a header.
func (e *Encoder) pack() error {
	codec := compress.Compression(e.Codec).Codec()
	if codec == nil {
		return fmt.Errorf("unknown codec %d", e.Codec)
	}
	e.packed = append(e.packed[:0], e.buf[:setPrefix+headerSize]...)
	w := codec.NewWriter((*packedWriter)(e))
	_, err := w.Write(e.buf[setPrefix+headerSize:])
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

// packedWriter appends to an encoder's packed buffer.
type packedWriter Encoder

var _ io.Writer = (*packedWriter)(nil)

func (w *packedWriter) Write(p []byte) (int, error) {
	w.packed = append(w.packed, p...)
	return len(p), nil
}

// Size is at least what the record takes in a batch without compression.
func Size(r *schemas.Record) int {
	n := bodySize(r, 1<<40, maxOffsetDelta)
	return n + varintLen(int64(n))
}

// maxOffsetDelta is an offset delta that no batch reaches.
const maxOffsetDelta = 1 << 30

// bodySize is the length of a record after its length field.
func bodySize(r *schemas.Record, timeDelta, offsetDelta int64) int {
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
