package kafkalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"unsafe"

	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/schemas"
)

// ErrCorrupt comes, wrapped, when a record batch is not what its producer wrote, or is written in a way that cannot be
// read. The text names the offset.
var ErrCorrupt = errors.New("corrupt or unsupported record batch")

// A record batch, version 2. Integers are big endian, varints zigzag.
//
//	 0 base offset i64 | 8 length i32, of what follows | 12 leader epoch i32 | 16 magic i8 | 17 crc32c u32, of what follows
//	21 attributes i16 | 23 last offset delta i32 | 27 base time i64 | 35 max time i64 | 43 producer id i64
//	51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//
//	record  length varint | attributes i8 | time delta varint | offset delta varint | key length varint, -1 nil, key
//	        | value likewise | headers varint × { key length varint, key | value length varint, -1 nil, value }
const (
	batchHeader    = 61
	minBatchLength = batchHeader - 12

	attrCodec         = 0x07
	attrLogAppend     = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20

	// recordHead is enough for the fields in front of a record's key.
	recordHead = 32
	// recordOverhead is what a record may take beyond key, value and headers before it is looked at closely.
	recordOverhead = 64 << 10
)

// abortedTxn says that the records of a producer from first up to its abort marker do not count.
type abortedTxn struct{ producer, first int64 }

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
	if len(b) < batchHeader {
		return x, b, false, nil
	}
	base := int64(binary.BigEndian.Uint64(b))
	length := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if length < minBatchLength {
		return x, b, false, fmt.Errorf("%w: length %d at offset %d", ErrCorrupt, length, base)
	}
	if 12+length > int64(len(b)) {
		return x, b, false, nil
	}
	n := int(12 + length)
	x = rawBatch{b: b[:n:n], base: base}
	if b[16] != 2 {
		return x, b, false, fmt.Errorf("%w: format %d at offset %d", ErrCorrupt, int8(b[16]), base)
	}
	x.attributes = int16(binary.BigEndian.Uint16(b[21:]))
	x.last = base + int64(int32(binary.BigEndian.Uint32(b[23:])))
	x.baseTime = int64(binary.BigEndian.Uint64(b[27:]))
	x.maxAt = int64(binary.BigEndian.Uint64(b[35:]))
	x.producer = int64(binary.BigEndian.Uint64(b[43:]))
	x.count = int32(binary.BigEndian.Uint32(b[57:]))
	if base < 0 || x.last < base || x.count < 0 {
		return x, b, false, fmt.Errorf("%w: header at offset %d", ErrCorrupt, base)
	}
	return x, b[n:], true, nil
}

// checkRun proves the batches of a fetched run and gives the whole ones, with the offset behind the last of them. It
// reads no record. Beside an error, what lies before the bad batch is given and is good.
func checkRun(b []byte, from int64) (whole []byte, next int64, err error) {
	rest := b
	for next = from; ; {
		x, tail, ok, err := splitBatch(rest)
		if err != nil || !ok {
			return b[:len(b)-len(rest)], next, err
		}
		if crc32.Checksum(x.b[21:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(x.b[17:]) {
			return b[:len(b)-len(rest)], next, fmt.Errorf("%w: checksum at offset %d", ErrCorrupt, x.base)
		}
		next = max(next, x.last+1)
		rest = tail
	}
}

// slab collects decoded records. Its arrays are used again once its records are done with.
type slab struct {
	records []schemas.Record
	headers []schemas.Header
	bytes   int // of keys, values and headers in records
}

func (s *slab) reset() {
	clear(s.records)
	clear(s.headers)
	s.records, s.headers, s.bytes = s.records[:0], s.headers[:0], 0
}

// decoder walks a fetched run of batches whose checksums have been proved. It gives committed records at or above from,
// in order; next is always the offset behind what it gave or passed over.
type decoder struct {
	rest     []byte
	aborted  []abortedTxn // sorted by first, not yet open
	open     map[int64]struct{}
	next     int64
	unfolded int // bytes that decompression added

	batch  rawBatch // the batch being read
	left   int32    // its records that are still to come
	body   wire
	stream *recordStream // instead of body, for a batch that unfolds to very much
	limit  int64         // of what is unfolded whole
}

func newDecoder(b []byte, from int64, aborted []abortedTxn) *decoder {
	slices.SortFunc(aborted, func(a, b abortedTxn) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	return &decoder{rest: b, aborted: aborted, next: from, limit: wholeLimit}
}

// fill decodes into s until it has maxRecords records or maxBytes bytes, or until the run is done.
func (d *decoder) fill(s *slab, maxRecords, maxBytes int) (done bool, err error) {
	for len(s.records) < maxRecords && s.bytes < maxBytes {
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

// close gives a codec back that is still in use.
func (d *decoder) close() {
	d.stream.close()
	d.stream = nil
}

// endBatch moves next behind the batch, also where compaction took its last records.
func (d *decoder) endBatch() {
	d.next = max(d.next, d.batch.last+1)
	d.close()
	d.body = wire{}
}

// nextBatch goes on to the next batch with records to give.
func (d *decoder) nextBatch() (more bool, err error) {
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
		if x.last < d.next {
			continue
		}
		d.batch = x
		for len(d.aborted) > 0 && d.aborted[0].first <= x.last {
			if d.open == nil {
				d.open = map[int64]struct{}{}
			}
			d.open[d.aborted[0].producer] = struct{}{}
			d.aborted = d.aborted[1:]
		}
		if d.passOver(x) {
			d.endBatch()
			continue
		}
		return true, d.begin(x)
	}
}

// passOver says whether a batch has nothing to give: a transaction's marker, an aborted transaction, or no record.
func (d *decoder) passOver(x rawBatch) bool {
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
	w := wire{b: x.b[batchHeader:]}
	w.varint()
	w.take(1)
	w.varint()
	w.varint()
	w.varint()
	w.i16()
	return w.i16() == 0 && w.err == nil
}

func (d *decoder) begin(x rawBatch) error {
	d.left = x.count
	body := x.b[batchHeader:]
	codec := compress.Compression(x.attributes & attrCodec)
	if codec == compress.None {
		d.body = wire{b: body}
		return nil
	}
	whole, stream, err := inflate(codec, body, d.limit)
	if err != nil {
		d.left = 0
		return fmt.Errorf("read batch at offset %d: %w", x.base, err)
	}
	d.body, d.stream = wire{b: whole}, stream
	d.unfolded += len(whole)
	return nil
}

// record reads one record, and gives it unless it lies below next.
func (d *decoder) record(s *slab) error {
	var b []byte
	var size int
	if d.stream != nil {
		var err error
		if b, size, err = d.stream.next(schemas.MaxRecordBytes + recordOverhead); err != nil {
			return err
		}
		d.unfolded += len(b)
	} else {
		n := d.body.varint()
		if n < 0 || n > int64(len(d.body.b)) {
			return fmt.Errorf("%w: record of %d bytes", ErrCorrupt, n)
		}
		if b, size = d.body.take(int(n)), int(n); d.body.err != nil {
			return fmt.Errorf("%w: record overruns its batch", ErrCorrupt)
		}
	}
	w := wire{b: b}
	w.take(1)
	at, delta := d.batch.baseTime+w.varint(), w.varint()
	if d.batch.attributes&attrLogAppend != 0 {
		at = d.batch.maxAt
	}
	offset := d.batch.base + delta
	switch {
	case w.err != nil:
		return fmt.Errorf("%w: record overruns its length", ErrCorrupt)
	case delta < 0 || offset > d.batch.last:
		return fmt.Errorf("%w: record outside its batch", ErrCorrupt)
	case offset < d.next:
		return nil
	}
	rec := schemas.Record{Time: schemas.ClampTime(at), Offset: offset}
	if size > len(b) {
		rec.Oversize = size // above the limit for sure: its bytes were skipped
	} else if err := readFields(&w, &rec, s); err != nil {
		return err
	}
	s.records = append(s.records, rec)
	d.next = offset + 1
	return nil
}

// readFields reads key, value and headers. Bytes behind them are for later versions of the format.
func readFields(w *wire, rec *schemas.Record, s *slab) error {
	rec.Key = nullable(w)
	rec.Value = nullable(w)
	n := w.varint()
	if w.err != nil || n < 0 || n > int64(len(w.b)) {
		return fmt.Errorf("%w: record overruns its length", ErrCorrupt)
	}
	size := len(rec.Key) + len(rec.Value)
	first := len(s.headers)
	for ; n > 0; n-- {
		key := nullable(w)
		h := schemas.Header{Key: unsafe.String(unsafe.SliceData(key), len(key)), Value: nullable(w)}
		if w.err != nil {
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
	s.bytes += size
	return nil
}

// nullable reads a length and so many bytes; -1 is nil, which is not the same as empty.
func nullable(w *wire) []byte {
	n := w.varint()
	if n == -1 {
		return nil
	}
	if n < 0 || n > int64(len(w.b)) {
		w.err = errFrame
		return nil
	}
	return w.take(int(n))
}
