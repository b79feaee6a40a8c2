package kafkalog

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
)

// plainRecord is what two readers of a batch must agree about.
type plainRecord struct {
	Key, Value string
	NilValue   bool
	Headers    []string
	Time       int64
	Offset     int64
}

func plainOf(r *schemas.Record) plainRecord {
	p := plainRecord{Key: string(r.Key), Value: string(r.Value), NilValue: r.Value == nil, Time: r.Time, Offset: r.Offset}
	for _, h := range r.Headers {
		p.Headers = append(p.Headers, fmt.Sprintf("%q=%q,%v", h.Key, h.Value, h.Value == nil))
	}
	return p
}

// readForeign reads a record set with another client's reader, which also checks lengths and counts.
func readForeign(set []byte) (kmsg.RecordBatch, []plainRecord, error) {
	var b kmsg.RecordBatch
	if err := b.ReadFrom(set[setPrefix:]); err != nil {
		return b, nil, err
	}
	recs, err := kfake.BatchRecords(b)
	if err != nil {
		return b, nil, err
	}
	var out []plainRecord
	for _, r := range recs {
		p := plainRecord{
			Key: string(r.Key), Value: string(r.Value), NilValue: r.Value == nil,
			Time: b.FirstTimestamp + r.TimestampDelta64, Offset: int64(r.OffsetDelta),
		}
		for _, h := range r.Headers {
			p.Headers = append(p.Headers, fmt.Sprintf("%q=%q,%v", h.Key, h.Value, h.Value == nil))
		}
		out = append(out, p)
	}
	return b, out, nil
}

func drawRecord(t *rapid.T) schemas.Record {
	maybe := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "nil") {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
	})
	r := schemas.Record{
		Key:   rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "key"),
		Value: maybe.Draw(t, "value"),
		Time:  rapid.Int64Range(0, 1<<41).Draw(t, "time"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "headers") {
		r.Headers = append(r.Headers, schemas.Header{Key: rapid.StringN(0, 20, 60).Draw(t, "name"), Value: maybe.Draw(t, "header")})
	}
	return r
}

func TestEncodeRoundTrip(t *testing.T) {
	e := &batchEncoder{}
	rapid.Check(t, func(t *rapid.T) {
		e.codec = Compression(rapid.IntRange(0, 4).Draw(t, "codec"))
		state := producerState{
			id: rapid.Int64Range(0, 1<<40).Draw(t, "id"), epoch: rapid.Int16Range(0, 100).Draw(t, "epoch"),
			sequence: rapid.Int32Range(0, 1<<31-1).Draw(t, "sequence"),
		}
		recs := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 40).Draw(t, "records")
		var want []plainRecord
		sizes := 0
		e.begin()
		for i := range recs {
			recs[i].Offset = int64(i)
			e.add(&recs[i], recs[i].Time)
			want = append(want, plainOf(&recs[i]))
			sizes += recordSize(&recs[i])
		}
		set, err := e.finish(state)
		if err != nil {
			t.Fatal(err)
		}
		if e.codec == CompressionNone && len(set) > sizes+setPrefix+batchHeaderSize {
			t.Fatalf("set of %d bytes, recordSize promised at most %d", len(set), sizes+setPrefix+batchHeaderSize)
		}
		b, got, err := readForeign(set)
		if err != nil {
			t.Fatalf("another client cannot read the batch: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
		if b.ProducerID != state.id || b.ProducerEpoch != state.epoch || b.FirstSequence != state.sequence {
			t.Fatalf("got producer %d/%d/%d, want %+v", b.ProducerID, b.ProducerEpoch, b.FirstSequence, state)
		}
	})
}

func TestEncodeMaxTime(t *testing.T) {
	e := &batchEncoder{}
	e.begin()
	for _, ms := range []int64{50, 90, 10} {
		e.add(&schemas.Record{Key: []byte("k")}, ms)
	}
	set, err := e.finish(producerState{})
	if err != nil {
		t.Fatal(err)
	}
	b, got, err := readForeign(set)
	if err != nil {
		t.Fatal(err)
	}
	if b.FirstTimestamp != 50 || b.MaxTimestamp != 90 || got[2].Time != 10 {
		t.Errorf("got first %d, max %d, third %d; want 50, 90, 10", b.FirstTimestamp, b.MaxTimestamp, got[2].Time)
	}
}

func TestEncodeNothing(t *testing.T) {
	e := &batchEncoder{}
	e.begin()
	if _, err := e.finish(producerState{}); err == nil {
		t.Error("an empty batch was encoded")
	}
}

func sampleRecord() *schemas.Record {
	return &schemas.Record{
		Key: []byte("customer-4711"), Value: bytes.Repeat([]byte("0123456789"), 20), Time: 1_700_000_000_000,
		Headers: []schemas.Header{{Key: "ce_id", Value: []byte("018f6f2e-7a2b-7c3d-8e4f-5a6b7c8d9e0f")}, {Key: "ce_specversion", Value: []byte("1.0")}},
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	e, r := &batchEncoder{}, sampleRecord()
	encode := func() {
		e.begin()
		for range 1000 {
			e.add(r, r.Time)
		}
		if _, err := e.finish(producerState{}); err != nil {
			t.Fatal(err)
		}
	}
	encode()
	if got := testing.AllocsPerRun(20, encode); got != 0 {
		t.Errorf("got %v allocations for a batch of 1000 records, want 0", got)
	}
}

func TestSequenceWraps(t *testing.T) {
	s := producerState{sequence: 1<<31 - 3}
	s.advance(5)
	if s.sequence != 2 {
		t.Errorf("got sequence %d, want 2", s.sequence)
	}
}

func TestMurmur2KnownVectors(t *testing.T) {
	// The vectors of Kafka's own test of its Java client.
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string":                       -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitionAsOthers(t *testing.T) {
	all := make([]int, 50)
	for i := range all {
		all[i] = i
	}
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 600).Draw(t, "key")
		n := rapid.IntRange(1, 50).Draw(t, "partitions")
		want := kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, all[:n]...)
		if got := PartitionOf(key, int32(n)); int(got) != want {
			t.Fatalf("got partition %d, want %d", got, want)
		}
	})
}

func TestParseCompression(t *testing.T) {
	for name, want := range map[string]Compression{"": 0, "none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4} {
		if got, err := ParseCompression(name); err != nil || got != want {
			t.Errorf("ParseCompression(%q) = %d, %v; want %d", name, got, err, want)
		}
	}
	if _, err := ParseCompression("brotli"); err == nil {
		t.Error("brotli was taken")
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"none", "snappy", "lz4", "zstd", "gzip"} {
		b.Run(name, func(b *testing.B) {
			codec, err := ParseCompression(name)
			if err != nil {
				b.Fatal(err)
			}
			e, r := &batchEncoder{codec: codec}, sampleRecord()
			b.ReportAllocs()
			for n := 0; n < b.N; n += 1000 {
				e.begin()
				for range 1000 {
					e.add(r, r.Time)
				}
				if _, err := e.finish(producerState{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
