package recordbatch

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/compress"
)

// Limits of decompression. A few kilobytes may unfold to gigabytes.
const (
	// wholeLimit is how much of a batch is unfolded at once; a larger one is streamed record by record.
	wholeLimit = 64 << 20
	// streamLimit is how much of one batch is unfolded at all.
	streamLimit = 1 << 30
	// windowLimit is the memory that one zstd frame may ask for, and one snappy block may become.
	windowLimit = 128 << 20
)

// errUnfolds is returned, wrapped, when a batch unfolds beyond streamLimit or asks for too much memory.
var errUnfolds = errors.New("batch unfolds beyond the limit")

// inflate unfolds the records of a compressed batch: whole when they are not above limit, else as a stream.
func inflate(codec compress.Compression, packed []byte, limit int64) (whole []byte, stream *recordStream, err error) {
	if err := checkPacked(codec, packed); err != nil {
		return nil, nil, err
	}
	r, err := openCodec(codec, packed)
	if err != nil {
		return nil, nil, err
	}
	var buf bytes.Buffer
	buf.Grow(min(4*len(packed), wholeLimit) + bytes.MinRead)
	n, err := io.Copy(&buf, io.LimitReader(r, limit+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("unfold %s: %w", codec, err)
	}
	if n <= limit {
		return buf.Bytes(), nil, nil
	}
	if r, err = openCodec(codec, packed); err != nil {
		return nil, nil, err
	}
	return nil, newRecordStream(r), nil
}

func openCodec(codec compress.Compression, packed []byte) (io.ReadCloser, error) {
	c := codec.Codec()
	if c == nil {
		return nil, fmt.Errorf("%w: compression %d", ErrCorrupt, int8(codec))
	}
	return c.NewReader(bytes.NewReader(packed)), nil
}

// checkPacked refuses what would make a codec allocate by an unproven length.
func checkPacked(codec compress.Compression, b []byte) error {
	switch codec {
	case compress.Snappy:
		return checkSnappy(b)
	case compress.Zstd:
		return checkZstd(b)
	case compress.None, compress.Gzip, compress.Lz4: // bounded by their format
	}
	return nil
}

// checkSnappy walks the blocks: either one bare block, or the framing of the Java library,
//
//	82 'SNAPPY' 0 | version i32 | compatible i32 | { length i32 | block } …
//
// where each block begins with its unfolded length as a varint.
func checkSnappy(b []byte) error {
	if len(b) < 16 || !bytes.Equal(b[:8], []byte("\x82SNAPPY\x00")) {
		return checkSnappyBlock(b)
	}
	for b = b[16:]; len(b) > 0; {
		if len(b) < 4 {
			return fmt.Errorf("%w: cut off snappy frame", ErrCorrupt)
		}
		n := int64(binary.BigEndian.Uint32(b))
		if b = b[4:]; n > int64(len(b)) {
			return fmt.Errorf("%w: snappy frame of %d bytes", ErrCorrupt, n)
		}
		if err := checkSnappyBlock(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func checkSnappyBlock(b []byte) error {
	n, k := binary.Uvarint(b)
	if k <= 0 {
		return fmt.Errorf("%w: snappy block without length", ErrCorrupt)
	}
	if n > windowLimit {
		return fmt.Errorf("%w: snappy block of %d bytes", errUnfolds, n)
	}
	return nil
}

// checkZstd reads the window that the first frame asks for:
//
//	magic 28 B5 2F FD | descriptor: content size flag 2 bits, single segment 1, … dictionary 2 | window, unless single segment | …
func checkZstd(b []byte) error {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != 0xFD2FB528 || b[4]&0x20 != 0 {
		return nil // the codec refuses it, or the window is no larger than the content, which is counted
	}
	base := uint64(1) << (10 + b[5]>>3)
	if window := base + base/8*uint64(b[5]&7); window > windowLimit {
		return fmt.Errorf("%w: zstd window of %d bytes", errUnfolds, window)
	}
	return nil
}

// recordStream reads records one after the other from a codec, so that memory stays flat however much they unfold to.
type recordStream struct {
	codec io.ReadCloser
	r     *bufio.Reader
	left  int64 // of streamLimit
}

func newRecordStream(codec io.ReadCloser) *recordStream {
	return &recordStream{codec: codec, r: bufio.NewReaderSize(codec, 64<<10), left: streamLimit}
}

// next returns the bytes of one record, behind its length. A record above limit is skipped: head then has its first bytes
// and size tells its length.
func (s *recordStream) next(limit int) (b []byte, size int, err error) {
	n, err := binary.ReadVarint(s.r)
	if err != nil {
		return nil, 0, noEOF(err)
	}
	if n < 0 {
		return nil, 0, fmt.Errorf("%w: record of %d bytes", ErrCorrupt, n)
	}
	if s.left -= n; s.left < 0 {
		return nil, 0, errUnfolds
	}
	keep := n
	if n > int64(limit) {
		keep = min(n, recordHead)
	}
	b = make([]byte, keep)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, 0, noEOF(err)
	}
	if _, err := io.CopyN(io.Discard, s.r, n-keep); err != nil {
		return nil, 0, noEOF(err)
	}
	return b, int(n), nil
}

func (s *recordStream) close() {
	if s != nil {
		_ = s.codec.Close()
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("unfold record: %w", err)
}
