package invalidation_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/freshet/freshet/invalidation"
)

func TestRawValuesAreShared(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	want := []byte("V 1 2 3\n\x00\xff{")
	loads := 0
	for range 2 {
		c, err := invalidation.NewCache(r.join(invalidation.Config{}), invalidation.CacheConfig[[]byte]{
			Dataset: "users", Codec: invalidation.Raw{},
			Load: func(_ context.Context, _ string, from invalidation.Source) (invalidation.Loaded[[]byte], error) {
				loads++
				return invalidation.Loaded[[]byte]{Value: want, Version: 1, Found: true, From: from}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(t.Context(), "1"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Get gave %q, %v", got, err)
		}
	}
	if loads != 1 {
		t.Errorf("%d loads for two nodes, want 1", loads)
	}
}
