package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go/compress"

	"github.com/freshet/freshet/schemas"
)

// decodeRun runs both layers as the fetcher does.
func decodeRun(b []byte, from int64, aborted []Aborted) (recs []schemas.Record, next int64, err error) {
	run, end, err := Check(b, from)
	d := NewDecoder(run, from, aborted)
	defer d.Close()
	s := new(Slab)
	done, derr := d.Fill(s, 1<<30, 1<<60)
	if derr == nil && !done {
		derr = errors.New("fill is not done")
	}
	if derr == nil && d.Next != end {
		derr = fmt.Errorf("decoder ends at %d, the run at %d", d.Next, end)
	}
	return s.Records, d.Next, errors.Join(err, derr)
}

// Streams of one topic share a reply, and their writers decode it at the same time.
func TestDecoderLeavesAbortedAsTheyAre(t *testing.T) {
	shared := []Aborted{{Producer: 1, First: 4}, {Producer: 1, First: 0}}
	NewDecoder(nil, 0, shared).Close()
	if want := []Aborted{{1, 4}, {1, 0}}; !slices.Equal(shared, want) {
		t.Errorf("aborted transactions are %v behind NewDecoder, want %v", shared, want)
	}
}

func offsets(recs []schemas.Record) []int64 {
	out := []int64{}
	for _, r := range recs {
		out = append(out, r.Offset)
	}
	return out
}

func TestDecodeGoldenBatches(t *testing.T) {
	empty := func(base int64, n int32) goldenBatch {
		return goldenBatch{base: base, lastDelta: n - 1, producer: 4, body: []byte{}}
	}
	txn := func(base int64, n int, producer int64) goldenBatch {
		return with(plain(base, n), func(g *goldenBatch) { g.attributes |= attrTransactional; g.producer = producer })
	}
	cut := join(t, plain(0, 2), plain(2, 2))
	flipped := join(t, plain(0, 2), plain(2, 2))
	flipped[len(flipped)-3] ^= 1
	old := join(t, plain(0, 2))
	old[16] = 1
	for _, c := range []struct {
		name    string
		run     []byte
		from    int64
		aborted []Aborted
		want    []int64
		next    int64
		err     error
	}{
		{name: "nothing", from: 5, want: []int64{}, next: 5},
		{name: "plain, empty, plain", run: join(t, plain(0, 2), empty(2, 3), plain(5, 1)), want: []int64{0, 1, 5}, next: 6},
		{name: "empty only", run: join(t, empty(4, 6)), from: 4, want: []int64{}, next: 10},
		{name: "from inside a batch", run: join(t, plain(0, 5)), from: 3, want: []int64{3, 4}, next: 5},
		{name: "batch below from", run: join(t, plain(0, 5), plain(5, 1)), from: 5, want: []int64{5}, next: 6},
		{name: "marker between", run: join(t, plain(0, 1), marker(1, 9, 1), plain(2, 1)), want: []int64{0, 2}, next: 3},
		{name: "cut off tail", run: cut[:len(cut)-1], want: []int64{0, 1}, next: 2},
		{name: "cut off header", run: cut[:len(cut)/2+20], want: []int64{0, 1}, next: 2},
		{name: "compacted tail", run: join(t, with(plain(0, 3), func(g *goldenBatch) { g.lastDelta = 9 })), want: []int64{0, 1, 2}, next: 10},
		{name: "compacted holes", run: join(t, goldenBatch{base: 10, lastDelta: 8, deltas: []int64{1, 5}}), from: 10, want: []int64{11, 15}, next: 19},
		{name: "flipped byte", run: flipped, want: []int64{0, 1}, next: 2, err: ErrCorrupt},
		{name: "old format", run: old, want: []int64{}, next: 0, err: ErrCorrupt},
		{
			name:    "aborted beside committed of another producer",
			run:     join(t, txn(0, 2, 1), txn(2, 2, 2), marker(4, 1, 0), txn(5, 1, 1), marker(6, 2, 1), marker(7, 1, 1), plain(8, 1)),
			aborted: []Aborted{{Producer: 1, First: 0}}, want: []int64{2, 3, 5, 8}, next: 9,
		},
		{
			name:    "aborted twice, listed out of order",
			run:     join(t, txn(0, 1, 1), marker(1, 1, 0), txn(2, 1, 1), marker(3, 1, 1), txn(4, 1, 1), marker(5, 1, 0)),
			aborted: []Aborted{{1, 4}, {1, 0}}, want: []int64{2}, next: 6,
		},
		{
			name:    "a plain batch of a producer that aborts",
			run:     join(t, txn(0, 1, 1), with(plain(1, 1), func(g *goldenBatch) { g.producer = 1 }), marker(2, 1, 0)),
			aborted: []Aborted{{1, 0}}, want: []int64{1}, next: 3,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs, next, err := decodeRun(c.run, c.from, c.aborted)
			if !errors.Is(err, c.err) {
				t.Fatalf("err: got %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.want, offsets(recs)); diff != "" {
				t.Error(diff)
			}
			if next != c.next {
				t.Errorf("next: got %d, want %d", next, c.next)
			}
		})
	}
}

func TestDecodeEachCodecWithAnEmptyBatchBetween(t *testing.T) {
	for codec := compress.None; codec <= compress.Zstd; codec++ {
		t.Run(codec.String(), func(t *testing.T) {
			packed := func(base int64) goldenBatch {
				return with(plain(base, 3), func(g *goldenBatch) { g.attributes |= int16(codec) })
			}
			hollow := goldenBatch{base: 3, lastDelta: 1, attributes: int16(codec), body: []byte{}}
			recs, next, err := decodeRun(join(t, packed(0), hollow, packed(5)), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int64{0, 1, 2, 5, 6, 7}, offsets(recs)); diff != "" {
				t.Error(diff)
			}
			if next != 8 {
				t.Errorf("next: got %d, want 8", next)
			}
			if got := string(recs[4].Value); got != "v6" {
				t.Errorf("value: got %q, want v6", got)
			}
		})
	}
}

func TestDecodeFields(t *testing.T) {
	body := goldenRecord(0, 5, nil, nil)
	body = append(body, goldenRecord(1, -2, []byte{}, []byte{}, schemas.Header{Key: "a", Value: []byte("x")}, schemas.Header{Key: "b"})...)
	extended := goldenRecord(2, 0, []byte("k"), []byte("v"))
	extended[0] += 2 * 3 // three more bytes than this format knows, as a later one may have
	body = append(append(body, extended...), 1, 2, 3)
	for _, c := range []struct {
		name  string
		attrs int16
		times []int64
	}{
		{"created", 0, []int64{105, 98, 100}},
		{"log append time", attrLogAppend, []int64{200, 200, 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := goldenBatch{base: 7, lastDelta: 2, attributes: c.attrs, time: 100, maxTime: 200, body: body, count: 3}
			recs, _, err := decodeRun(g.bytes(t), 7, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := []schemas.Record{
				{Offset: 7, Time: c.times[0]},
				{Offset: 8, Time: c.times[1], Key: []byte{}, Value: []byte{}, Headers: []schemas.Header{{Key: "a", Value: []byte("x")}, {Key: "b"}}},
				{Offset: 9, Time: c.times[2], Key: []byte("k"), Value: []byte("v")},
			}
			if diff := cmp.Diff(want, recs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeRefusesLies(t *testing.T) {
	rec := goldenRecord(0, 0, []byte("k"), []byte("v"))
	for _, c := range []struct {
		name string
		g    goldenBatch
	}{
		{"more records than bytes", goldenBatch{lastDelta: 9, body: rec, count: 10}},
		{"negative record length", goldenBatch{body: binary.AppendVarint(nil, -5), count: 1}},
		{"record beyond its batch", goldenBatch{body: goldenRecord(1, 0, nil, nil), count: 1}},
		{"negative offset delta", goldenBatch{body: goldenRecord(-1, 0, nil, nil), count: 1}},
		{"key beyond its record", goldenBatch{body: append(binary.AppendVarint(nil, 4), 0, 0, 0, 100), count: 1}},
		{"a billion headers", goldenBatch{body: append(binary.AppendVarint(nil, 8), 0, 0, 0, 1, 1, 0xfe, 0xff, 0x7f), count: 1}},
		{"no such codec", goldenBatch{attributes: 6, body: rec, count: 1}},
		{"no gzip", goldenBatch{attributes: 1, body: rec, count: 1}},
		{"cut off snappy", goldenBatch{attributes: 2, body: []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"), count: 1}},
		{"snappy of 4 GB", goldenBatch{attributes: 2, body: []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, count: 1}},
		{"zstd window of 2 GB", goldenBatch{attributes: 4, body: []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}, count: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs, next, err := decodeRun(c.g.bytes(t), 0, nil)
			if err == nil || next > 1 {
				t.Fatalf("got records %v, next %d, err %v; want an error at once", offsets(recs), next, err)
			}
		})
	}
	b := plain(0, 1).bytes(t)
	binary.BigEndian.PutUint32(b[8:], 48)
	if _, _, err := Check(b, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("length 48: got %v, want ErrCorrupt", err)
	}
}

func TestDecodeCutsBatches(t *testing.T) {
	run := join(t, plain(0, 10), plain(10, 10))
	d := NewDecoder(run, 0, nil)
	var got []int64
	for done := false; !done; {
		s := new(Slab)
		var err error
		if done, err = d.Fill(s, 4, 1<<20); err != nil {
			t.Fatal(err)
		}
		if len(s.Records) > 4 {
			t.Fatalf("got %d records, want at most 4", len(s.Records))
		}
		got = append(got, offsets(s.Records)...)
		if int64(len(got)) != d.Next {
			t.Fatalf("next: got %d after %d records", d.Next, len(got))
		}
	}
	if len(got) != 20 || got[19] != 19 {
		t.Errorf("got %v, want 0 to 19", got)
	}
}

func TestDecodeOversize(t *testing.T) {
	large := bytes.Repeat([]byte("x"), schemas.MaxRecordBytes+1)
	for codec := compress.None; codec <= compress.Zstd; codec++ {
		g := with(plain(0, 3), func(g *goldenBatch) {
			g.attributes |= int16(codec)
			g.value = func(offset int64) []byte {
				if offset == 1 {
					return large
				}
				return []byte("small")
			}
		})
		recs, _, err := decodeRun(g.bytes(t), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) != 3 || recs[1].Oversize != len(large)+2 || recs[1].Value != nil || recs[1].Key != nil {
			t.Errorf("%s: got %d records, oversize %d; want 3 with the second one emptied", codec, len(recs), recs[1].Oversize)
		}
		if string(recs[2].Value) != "small" || recs[2].Oversize != 0 {
			t.Errorf("%s: the neighbour of a large record suffers", codec)
		}
	}
}

func TestDecodeStreamsBeyondTheLimit(t *testing.T) {
	huge := bytes.Repeat([]byte("x"), 5*schemas.MaxRecordBytes)
	for codec := compress.Gzip; codec <= compress.Zstd; codec++ {
		g := with(plain(0, 40), func(g *goldenBatch) {
			g.attributes |= int16(codec)
			g.value = func(offset int64) []byte {
				if offset == 20 {
					return huge
				}
				return fmt.Appendf(nil, "v%d", offset)
			}
		})
		d := NewDecoder(g.bytes(t), 0, nil)
		d.Limit = 1 << 20
		s := new(Slab)
		done, err := d.Fill(s, 1000, 1<<30)
		if err != nil || !done {
			t.Fatalf("%s: done %v, err %v", codec, done, err)
		}
		if len(s.Records) != 40 || string(s.Records[39].Value) != "v39" || s.Records[20].Oversize < len(huge) || s.Records[20].Value != nil {
			t.Errorf("%s: got %d records, the large one with oversize %d", codec, len(s.Records), s.Records[20].Oversize)
		}
		if d.Unfolded > 4<<10 {
			t.Errorf("%s: %d bytes kept in memory, want the small records only", codec, d.Unfolded)
		}
		if d.stream != nil {
			t.Errorf("%s: the codec is still open", codec)
		}
	}
}

// A few kilobytes that unfold to more than the stream limit must end in an error with flat memory.
func TestDecodeBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("unfolds 1 GiB")
	}
	t.Parallel()
	var out bytes.Buffer
	w := compress.Zstd.Codec().NewWriter(&out)
	zeros := make([]byte, 1<<20)
	rec := binary.AppendVarint(nil, int64(len(zeros)))
	for range streamLimit/len(zeros) + 2 {
		for _, part := range [][]byte{rec, zeros} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	g := goldenBatch{lastDelta: 2000, attributes: int16(compress.Zstd), body: out.Bytes(), count: 2000}
	d := NewDecoder(g.bytes(t), 0, nil)
	defer d.Close()
	var err error
	records := 0
	for done := false; !done && err == nil; {
		s := new(Slab)
		done, err = d.Fill(s, 100, 4<<20)
		records += len(s.Records)
	}
	if !errors.Is(err, errUnfolds) {
		t.Fatalf("bomb of %d bytes: got %d records, err %v; want errUnfolds", out.Len(), records, err)
	}
}

func TestDecodeAllocatesNothingPerRecord(t *testing.T) {
	const n = 1000
	body := []byte{}
	for i := range n {
		body = append(body, goldenRecord(int64(i), 0, []byte("key"), []byte("value"), schemas.Header{Key: "h", Value: []byte("x")})...)
	}
	run := goldenBatch{lastDelta: n - 1, body: body, count: n}.bytes(t)
	s := new(Slab)
	allocs := testing.AllocsPerRun(20, func() {
		s.Reset()
		d := NewDecoder(run, 0, nil)
		if done, err := d.Fill(s, n+1, 1<<30); err != nil || !done || len(s.Records) != n {
			t.Fatalf("done %v, err %v, %d records", done, err, len(s.Records))
		}
	})
	if allocs > 2 { // the decoder itself
		t.Errorf("got %v allocations per %d records, want 2 at most", allocs, n)
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 1000
	value := bytes.Repeat([]byte("v"), 200)
	for codec := compress.None; codec <= compress.Zstd; codec++ {
		b.Run(codec.String(), func(b *testing.B) {
			var body []byte
			for i := range n {
				body = append(body, goldenRecord(int64(i), 0, fmt.Appendf(nil, "key-%d", i), value,
					schemas.Header{Key: "ce_id", Value: []byte("0123456789")}, schemas.Header{Key: "ce_type", Value: []byte("t")})...)
			}
			if codec != compress.None {
				var out bytes.Buffer
				w := codec.Codec().NewWriter(&out)
				_, _ = w.Write(body)
				_ = w.Close()
				body = out.Bytes()
			}
			run := goldenBatch{lastDelta: n - 1, attributes: int16(codec), body: body, count: n}.bytes(b)
			s := new(Slab)
			b.SetBytes(int64(len(run)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Check(run, 0); err != nil {
					b.Fatal(err)
				}
				s.Reset()
				if _, err := NewDecoder(run, 0, nil).Fill(s, n+1, 1<<30); err != nil || len(s.Records) != n {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(join(f, plain(0, 3), marker(3, 1, 0), plain(4, 1)), int64(0), int64(1), int64(0), true)
	for codec := int16(1); codec <= 4; codec++ {
		f.Add(with(plain(0, 3), func(g *goldenBatch) { g.attributes |= codec | attrTransactional }).bytes(f), int64(1), int64(-1), int64(0), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, from, producer, first int64, fix bool) {
		if from < 0 {
			return
		}
		if fix { // let the fuzzer past the checksum
			for rest := b; len(rest) >= headerSize; {
				n := int64(int32(binary.BigEndian.Uint32(rest[8:]))) + 12
				if n < headerSize || n > int64(len(rest)) {
					break
				}
				binary.BigEndian.PutUint32(rest[17:], crc32.Checksum(rest[21:n], crc32.MakeTable(crc32.Castagnoli)))
				rest = rest[n:]
			}
		}
		run, end, _ := Check(b, from)
		d := NewDecoder(run, from, []Aborted{{producer, first}})
		d.Limit = 1 << 16
		defer d.Close()
		last := from - 1
		for range 1000 {
			s := new(Slab)
			done, err := d.Fill(s, 50, 1<<16)
			for _, r := range s.Records {
				if r.Offset <= last || r.Offset >= d.Next {
					t.Fatalf("offset %d after %d, next %d", r.Offset, last, d.Next)
				}
				last = r.Offset
			}
			if err != nil {
				return
			}
			if done {
				if d.Next != end && end > from {
					t.Fatalf("decoder ends at %d, the run at %d", d.Next, end)
				}
				return
			}
		}
	})
}
