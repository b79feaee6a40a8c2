package recordbatch

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// readElsewhere reads a record set with another client's reader, which also checks lengths and counts.
func readElsewhere(set []byte) (kmsg.RecordBatch, []plainRecord, error) {
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
	e := &Encoder{}
	rapid.Check(t, func(t *rapid.T) {
		e.Codec = Compression(rapid.IntRange(0, 4).Draw(t, "codec"))
		state := Producer{
			ID: rapid.Int64Range(0, 1<<40).Draw(t, "id"), Epoch: rapid.Int16Range(0, 100).Draw(t, "epoch"),
			Sequence: rapid.Int32Range(0, 1<<31-1).Draw(t, "sequence"),
		}
		recs := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 40).Draw(t, "records")
		var want []plainRecord
		sizes := 0
		e.Begin()
		for i := range recs {
			recs[i].Offset = int64(i)
			e.Add(&recs[i], recs[i].Time)
			want = append(want, plainOf(&recs[i]))
			sizes += Size(&recs[i])
		}
		set, err := e.Finish(state)
		if err != nil {
			t.Fatal(err)
		}
		if e.Codec == CompressionNone && len(set) > sizes+setPrefix+headerSize {
			t.Fatalf("set of %d bytes, Size promised at most %d", len(set), sizes+setPrefix+headerSize)
		}
		b, got, err := readElsewhere(set)
		if err != nil {
			t.Fatalf("another client cannot read the batch: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
		if b.ProducerID != state.ID || b.ProducerEpoch != state.Epoch || b.FirstSequence != state.Sequence {
			t.Fatalf("got producer %d/%d/%d, want %+v", b.ProducerID, b.ProducerEpoch, b.FirstSequence, state)
		}
	})
}

func TestEncodeMaxTime(t *testing.T) {
	e := &Encoder{}
	e.Begin()
	for _, ms := range []int64{50, 90, 10} {
		e.Add(&schemas.Record{Key: []byte("k")}, ms)
	}
	set, err := e.Finish(Producer{})
	if err != nil {
		t.Fatal(err)
	}
	b, got, err := readElsewhere(set)
	if err != nil {
		t.Fatal(err)
	}
	if b.FirstTimestamp != 50 || b.MaxTimestamp != 90 || got[2].Time != 10 {
		t.Errorf("got first %d, max %d, third %d; want 50, 90, 10", b.FirstTimestamp, b.MaxTimestamp, got[2].Time)
	}
}

func TestEncodeNothing(t *testing.T) {
	e := &Encoder{}
	e.Begin()
	if _, err := e.Finish(Producer{}); err == nil {
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
	e, r := &Encoder{}, sampleRecord()
	encode := func() {
		e.Begin()
		for range 1000 {
			e.Add(r, r.Time)
		}
		if _, err := e.Finish(Producer{}); err != nil {
			t.Fatal(err)
		}
	}
	encode()
	if got := testing.AllocsPerRun(20, encode); got != 0 {
		t.Errorf("got %v allocations for a batch of 1000 records, want 0", got)
	}
}

func TestSequenceWraps(t *testing.T) {
	s := Producer{Sequence: 1<<31 - 3}
	s.Advance(5)
	if s.Sequence != 2 {
		t.Errorf("got sequence %d, want 2", s.Sequence)
	}
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
			e, r := &Encoder{Codec: codec}, sampleRecord()
			b.ReportAllocs()
			for n := 0; n < b.N; n += 1000 {
				e.Begin()
				for range 1000 {
					e.Add(r, r.Time)
				}
				if _, err := e.Finish(Producer{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
