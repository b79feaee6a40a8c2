package kafkalog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
)

// The partitions that producers in other languages must choose as well.
func TestPartitionVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "invalidation", "lane", "testdata", "vectors", "partitions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Key                   string
		Partitions, Partition int32
	}
	if err := json.Unmarshal(b, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		if got := kafkalog.PartitionOf([]byte(v.Key), v.Partitions); got != v.Partition {
			t.Errorf("%q: got partition %d, want %d", v.Key, got, v.Partition)
		}
	}
}
