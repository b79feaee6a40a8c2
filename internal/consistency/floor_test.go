package consistency_test

import (
	"testing"

	"github.com/freshet/freshet/invalidation/lane"
)

// The floor that inspection shows is the one that a fill meets.
func TestLookShowsTheFloor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.emit(lane.Item{Key: "item:a", Version: 17}, lane.Item{Key: "item:b"})
	copies, err := r.tiers.Look(t.Context(), "item:a", "item:b", "item:c")
	r.must(err)
	for i, want := range []int64{17, lane.PrimaryOnly, -1} {
		if got := copies[i].Shared.Floor; got != want {
			t.Errorf("%s: floor %d, want %d", copies[i].Shared.Name, got, want)
		}
	}
}
