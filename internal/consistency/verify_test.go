package consistency_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/invalidation/lane"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const rows = 250 // three pages
	for i := range rows {
		r.apply(fmt.Sprintf("k%03d", i), 3)
	}
	r.emit()
	_, c := r.node("a")
	r.holds(c, "k017", 3)
	cfg := consistency.Config{Datasets: r.set, Replica: r.replica.Rows, Tiers: r.tiers, Confirm: maxStaleness + 100*time.Millisecond}
	verify := func(after string, records int) consistency.Report {
		t.Helper()
		rep, err := consistency.Verify(t.Context(), cfg, after, records, r.set.All()...)
		r.must(err)
		return rep
	}
	if rep := verify("", 0); rep.Records != rows || rep.Copies != 2 || len(rep.Stale) != 0 || rep.Waiting != 0 {
		t.Errorf("of a sound system: %+v", rep)
	}
	if rep := verify("k199", 10); rep.Records != 10 {
		t.Errorf("ten of them: %+v", rep)
	}
	if rep := verify("k199", 0); rep.Records != 50 {
		t.Errorf("those behind k199: %+v", rep)
	}
	r.plant("k233", 2)
	if rep := verify("", 0); len(rep.Stale) != 1 || rep.Stale[0].Key != "k233" || rep.Stale[0].Tier != "shared" || rep.Stale[0].Version != 2 || rep.Stale[0].Replica != 3 {
		t.Errorf("a planted entry: %+v", rep)
	}
	if rep := verify("k233", 0); len(rep.Stale) != 0 {
		t.Errorf("behind the planted entry: %+v", rep)
	}
	r.plant("k233", 9)
	if rep := verify("", 0); len(rep.Stale) != 0 || len(rep.Ahead) != 1 || rep.Ahead[0].Key != "k233" || rep.Ahead[0].Version != 9 || rep.Ahead[0].Replica != 3 {
		t.Errorf("an entry above its row: %+v", rep)
	}
	r.plant("k233", 2)
	r.apply("k017", 4)
	if rep := verify("", 100); rep.Waiting != 2 || len(rep.Stale) != 0 {
		t.Errorf("a change that waits for its emission: %+v", rep)
	}
	r.emit(lane.Item{Key: "item:k017", Version: 4}, lane.Item{Key: "item:k233", Version: 3})
	if rep := verify("", 0); len(rep.Stale) != 0 || rep.Waiting != 0 || rep.Copies != 0 {
		t.Errorf("after all: %+v", rep)
	}
}
