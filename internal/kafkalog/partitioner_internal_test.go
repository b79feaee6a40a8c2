package kafkalog

import (
	"testing"

	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"
)

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
