package recordbatch

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/schemas"
)

const (
	// recordHead is enough for the fields in front of a record's key.
	recordHead = 32
	// recordOverhead is what a record may take beyond key, value and headers before it is looked at closely.
	recordOverhead = 64 << 10
)

// Aborted is a transaction whose records do not count: those of Producer from offset First up to its abort marker.
type Aborted struct{ Producer, First int64 }

// rawBatch is one batch of a fetched run, with its header read and nothing behind it.
type rawBatch struct {
	b               []byte
	base, last      int64
	attributes      int16
	baseTime, maxAt int64
	producer        int64
	count           int32
}

// splitBatch cuts the first whole batch off b. ok is false when none is left: a broker cuts the tail of a reply where
// the limit falls, and the rest comes with the next fetch.
func splitBatch(b []byte) (x rawBatch, rest []byte, ok bool, err error) {
	if len(b) < headerSize {
		return x, b, false, nil
	}
	base := int64(binary.BigEndian.Uint64(b))
	length := int64(int32(binary.BigEndian.Uint32(b[atLength:])))
	if length < headerSize-lengthBias {
		return x, b, false, fmt.Errorf("%w: length %d at offset %d", ErrCorrupt, length, base)
	}
	if lengthBias+length > int64(len(b)) {
		return x, b, false, nil
	}
	n := int(12 + length)
	x = rawBatch{b: b[:n:n], base: base}
	if b[atMagic] != magic {
		return x, b, false, fmt.Errorf("%w: format %d at offset %d", ErrCorrupt, int8(b[atMagic]), base)
	}
	x.attributes = int16(binary.BigEndian.Uint16(b[atAttributes:]))
	x.last = base + int64(int32(binary.BigEndian.Uint32(b[atLastDelta:])))
	x.baseTime = int64(binary.BigEndian.Uint64(b[atBaseTime:]))
	x.maxAt = int64(binary.BigEndian.Uint64(b[atMaxTime:]))
	x.producer = int64(binary.BigEndian.Uint64(b[atProducer:]))
	x.count = int32(binary.BigEndian.Uint32(b[atCount:]))
	if base < 0 || x.last < base || x.count < 0 {
		return x, b, false, fmt.Errorf("%w: header at offset %d", ErrCorrupt, base)
	}
	return x, b[n:], true, nil
}

// Check proves the batches of a fetched run and returns the whole ones, with the offset behind the last of them. It
// reads no record. Beside an error, what precedes the bad batch is returned and is good.
func Check(b []byte, from int64) (whole []byte, next int64, err error) {
	rest := b
	for next = from; ; {
		x, tail, ok, err := splitBatch(rest)
		if err != nil || !ok {
			return b[:len(b)-len(rest)], next, err
		}
		if checksum(x.b) != binary.BigEndian.Uint32(x.b[atChecksum:]) {
			return b[:len(b)-len(rest)], next, fmt.Errorf("%w: checksum at offset %d", ErrCorrupt, x.base)
		}
		next = max(next, x.last+1)
		rest = tail
	}
}

// Slab collects decoded records. Its arrays are used again once its records are done with.
type Slab struct {
	Records []schemas.Record
	// Bytes is the size of keys, values and headers in Records.
	Bytes   int
	headers []schemas.Header
}

// Reset empties the slab; no record of it may be in use.
func (s *Slab) Reset() {
	clear(s.Records)
	clear(s.headers)
	s.Records, s.headers, s.Bytes = s.Records[:0], s.headers[:0], 0
}

// Decoder walks a fetched run of batches that Check has proved. It returns committed records at or above an offset, in
// order.
type Decoder struct {
	// Next is always the offset behind what was returned or passed over.
	Next int64
	// Unfolded counts the bytes that decompression added.
	Unfolded int
	// Limit is how much of a batch is unfolded at once; a larger one is streamed record by record.
	Limit int64

	rest    []byte
	aborted []Aborted // sorted by First, not yet open
	open    map[int64]struct{}

	batch  rawBatch // the batch being read
	left   int32    // its records that are still to come
	body   wire.Reader
	stream *recordStream // instead of body, for a batch that unfolds to very much
}

// NewDecoder returns a decoder of b from offset from on. aborted are the transactions that do not count. Neither is changed:
// decoders of several goroutines may have the same ones.
func NewDecoder(b []byte, from int64, aborted []Aborted) *Decoder {
	byFirst := func(a, b Aborted) int { return cmp.Compare(a.First, b.First) }
	if !slices.IsSortedFunc(aborted, byFirst) {
		aborted = slices.Clone(aborted)
		slices.SortFunc(aborted, byFirst)
	}
	return &Decoder{rest: b, aborted: aborted, Next: from, Limit: wholeLimit}
}

// Fill decodes into s until it has maxRecords records or maxBytes bytes, or until the run is done.
func (d *Decoder) Fill(s *Slab, maxRecords, maxBytes int) (done bool, err error) {
	for len(s.Records) < maxRecords && s.Bytes < maxBytes {
		if d.left == 0 {
			more, err := d.nextBatch()
			if err != nil {
				return false, err
			}
			if !more {
				return true, nil
			}
			continue
		}
		if err := d.record(s); err != nil {
			return false, fmt.Errorf("decode record of batch at offset %d: %w", d.batch.base, err)
		}
		if d.left--; d.left == 0 {
			d.endBatch()
		}
	}
	return d.left == 0 && len(d.rest) == 0, nil
}

// Close ends a codec that is still in use.
func (d *Decoder) Close() {
	d.stream.close()
	d.stream = nil
}

// endBatch moves Next behind the batch, also where compaction took its last records.
func (d *Decoder) endBatch() {
	d.Next = max(d.Next, d.batch.last+1)
	d.Close()
	d.body = wire.Reader{}
}

// nextBatch moves to the next batch that has records.
func (d *Decoder) nextBatch() (more bool, err error) {
	for {
		x, rest, ok, err := splitBatch(d.rest)
		if err != nil {
			return false, err
		}
		if !ok {
			d.rest = nil
			return false, nil
		}
		d.rest = rest
		if x.last < d.Next {
			continue
		}
		d.batch = x
		for len(d.aborted) > 0 && d.aborted[0].First <= x.last {
			if d.open == nil {
				d.open = map[int64]struct{}{}
			}
			d.open[d.aborted[0].Producer] = struct{}{}
			d.aborted = d.aborted[1:]
		}
		if d.passOver(x) {
			d.endBatch()
			continue
		}
		return true, d.begin(x)
	}
}

// passOver reports whether a batch has nothing to give: a transaction's marker, an aborted transaction, or no record.
func (d *Decoder) passOver(x rawBatch) bool {
	if x.attributes&attrControl != 0 {
		if isAbort(x) {
			delete(d.open, x.producer)
		}
		return true
	}
	if _, aborted := d.open[x.producer]; aborted && x.attributes&attrTransactional != 0 {
		return true
	}
	return x.count == 0
}

// isAbort reads a marker's key: version i16 | type i16, 0 for abort.
func isAbort(x rawBatch) bool {
	w := wire.Reader{Rest: x.b[headerSize:]}
	w.Varint()
	w.Take(1)
	w.Varint()
	w.Varint()
	w.Varint()
	w.I16()
	return w.I16() == 0 && w.Err == nil
}

func (d *Decoder) begin(x rawBatch) error {
	d.left = x.count
	body := x.b[headerSize:]
	codec := compress.Compression(x.attributes & attrCodec)
	if codec == compress.None {
		d.body = wire.Reader{Rest: body}
		return nil
	}
	whole, stream, err := inflate(codec, body, d.Limit)
	if err != nil {
		d.left = 0
		return fmt.Errorf("read batch at offset %d: %w", x.base, err)
	}
	d.body, d.stream = wire.Reader{Rest: whole}, stream
	d.Unfolded += len(whole)
	return nil
}

// record reads one record, and collects it unless it is below Next.
func (d *Decoder) record(s *Slab) error {
	var b []byte
	var size int
	if d.stream != nil {
		var err error
		if b, size, err = d.stream.next(schemas.MaxRecordBytes + recordOverhead); err != nil {
			return err
		}
		d.Unfolded += len(b)
	} else {
		n := d.body.Varint()
		if n < 0 || n > int64(len(d.body.Rest)) {
			return fmt.Errorf("%w: record of %d bytes", ErrCorrupt, n)
		}
		if b, size = d.body.Take(int(n)), int(n); d.body.Err != nil {
			return fmt.Errorf("%w: record overruns its batch", ErrCorrupt)
		}
	}
	w := wire.Reader{Rest: b}
	w.Take(1)
	at, delta := d.batch.baseTime+w.Varint(), w.Varint()
	if d.batch.attributes&attrLogAppend != 0 {
		at = d.batch.maxAt
	}
	offset := d.batch.base + delta
	switch {
	case w.Err != nil:
		return fmt.Errorf("%w: record overruns its length", ErrCorrupt)
	case delta < 0 || offset > d.batch.last:
		return fmt.Errorf("%w: record outside its batch", ErrCorrupt)
	case offset < d.Next:
		return nil
	}
	rec := schemas.Record{Time: schemas.ClampTime(at), Offset: offset}
	if size > len(b) {
		rec.Oversize = size // above the limit for sure: its bytes were skipped
	} else if err := readFields(&w, &rec, s); err != nil {
		return err
	}
	s.Records = append(s.Records, rec)
	d.Next = offset + 1
	return nil
}

// readFields reads key, value and headers. Bytes behind them are for later versions of the format.
func readFields(w *wire.Reader, rec *schemas.Record, s *Slab) error {
	rec.Key = nullable(w)
	rec.Value = nullable(w)
	n := w.Varint()
	if w.Err != nil || n < 0 || n > int64(len(w.Rest)) {
		return fmt.Errorf("%w: record overruns its length", ErrCorrupt)
	}
	size := len(rec.Key) + len(rec.Value)
	first := len(s.headers)
	for ; n > 0; n-- {
		key := nullable(w)
		h := schemas.Header{Key: unsafe.String(unsafe.SliceData(key), len(key)), Value: nullable(w)}
		if w.Err != nil {
			return fmt.Errorf("%w: record overruns its length", ErrCorrupt)
		}
		size += len(h.Key) + len(h.Value)
		s.headers = append(s.headers, h)
	}
	if size > schemas.MaxRecordBytes {
		s.headers = s.headers[:first]
		rec.Key, rec.Value, rec.Oversize = nil, nil, size
		return nil
	}
	if first < len(s.headers) {
		rec.Headers = s.headers[first:len(s.headers):len(s.headers)]
	}
	s.Bytes += size
	return nil
}

// nullable reads a length and so many bytes; -1 is nil, which is not the same as empty.
func nullable(w *wire.Reader) []byte {
	n := w.Varint()
	if n == -1 {
		return nil
	}
	if n < 0 || n > int64(len(w.Rest)) {
		w.Err = wire.ErrMalformed
		return nil
	}
	return w.Take(int(n))
}
