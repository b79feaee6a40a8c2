package jobs

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// A batch may make more stale than the limit lets through in a second; it counts in full all the same.
func TestLimitCountsWholeBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := rate.NewLimiter(10, 10)
		began := time.Now()
		for range 2 {
			if err := waitFor(t.Context(), l, 250); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began).Round(time.Second); took != 49*time.Second {
			t.Errorf("500 at 10 a second with 10 to begin with took %s, want 49s", took)
		}
		if err := waitFor(t.Context(), rate.NewLimiter(rate.Inf, 0), 250); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	})
}
