package recordbatch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/schemas"
)

// goldenBatch is a record batch written field by field, so that the decoder is tested against the layout and not against
// our own encoder.
type goldenBatch struct {
	base       int64
	lastDelta  int32
	attributes int16
	producer   int64
	time       int64
	maxTime    int64
	deltas     []int64 // offset deltas of its records
	value      func(offset int64) []byte
	body       []byte // instead of records, with count
	count      int32
}

func goldenRecord(delta, timeDelta int64, key, value []byte, headers ...schemas.Header) []byte {
	b := []byte{0}
	b = binary.AppendVarint(b, timeDelta)
	b = binary.AppendVarint(b, delta)
	put := func(x []byte) {
		if x == nil {
			b = binary.AppendVarint(b, -1)
			return
		}
		b = append(binary.AppendVarint(b, int64(len(x))), x...)
	}
	put(key)
	put(value)
	b = binary.AppendVarint(b, int64(len(headers)))
	for _, h := range headers {
		put([]byte(h.Key))
		put(h.Value)
	}
	return append(binary.AppendVarint(nil, int64(len(b))), b...)
}

func (g goldenBatch) bytes(t testing.TB) []byte {
	t.Helper()
	body, count := g.body, g.count
	if body == nil {
		count = int32(len(g.deltas))
		for _, d := range g.deltas {
			v := fmt.Appendf(nil, "v%d", g.base+d)
			if g.value != nil {
				v = g.value(g.base + d)
			}
			body = append(body, goldenRecord(d, d, fmt.Appendf(nil, "k%d", g.base+d), v)...)
		}
		if codec := compress.Compression(g.attributes & 7); codec != 0 {
			var out bytes.Buffer
			w := codec.Codec().NewWriter(&out)
			if _, err := w.Write(body); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			body = out.Bytes()
		}
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(g.base))
	b = binary.BigEndian.AppendUint32(b, uint32(49+len(body)))
	b = binary.BigEndian.AppendUint32(b, 7)
	b = append(b, 2, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(g.attributes))
	b = binary.BigEndian.AppendUint32(b, uint32(g.lastDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(g.time))
	b = binary.BigEndian.AppendUint64(b, uint64(g.maxTime))
	b = binary.BigEndian.AppendUint64(b, uint64(g.producer))
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func marker(base, producer int64, kind int16) goldenBatch {
	key := binary.BigEndian.AppendUint16(nil, 0)
	key = binary.BigEndian.AppendUint16(key, uint16(kind))
	return goldenBatch{
		base: base, attributes: attrControl | attrTransactional, producer: producer,
		body: goldenRecord(0, 0, key, []byte{0, 0, 0, 0, 0, 0}), count: 1,
	}
}

func plain(base int64, n int) goldenBatch {
	g := goldenBatch{base: base, lastDelta: int32(n - 1), producer: -1}
	for i := range n {
		g.deltas = append(g.deltas, int64(i))
	}
	return g
}

func with(g goldenBatch, change func(*goldenBatch)) goldenBatch {
	change(&g)
	return g
}

func join(t testing.TB, gs ...goldenBatch) []byte {
	t.Helper()
	var b []byte
	for _, g := range gs {
		b = append(b, g.bytes(t)...)
	}
	return b
}
