package lane_test

import (
	"testing"

	"github.com/freshet/freshet/invalidation/lane"
)

func BenchmarkAppendPayload(b *testing.B) {
	p := fullPayload()
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		lane.AppendPayload(buf, &p)
	}
}

func BenchmarkParseFrame(b *testing.B) {
	p := fullPayload()
	s := string(lane.AppendFrame(nil, "1-1", "2-2", lane.AppendPayload(nil, &p)))
	b.ReportAllocs()
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		if _, err := lane.ParseFrame(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseValue(b *testing.B) {
	v := []byte("V 17 5 9 1760000000123 7\ncat:5\na" + string(make([]byte, 400)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := lane.ParseValue(v); !ok {
			b.Fatal("no value")
		}
	}
}

func BenchmarkOf(b *testing.B) {
	for b.Loop() {
		lane.Of("user:email:a-rather-long-address@example.com", 16)
	}
}
