package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
)

// Points are what was counted in between, of all workers; one that is restarted makes no negative point, and the number of points is bounded.
func TestHistoryOfChecks(t *testing.T) {
	cs := &checks{}
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	workers := func(began time.Time, n uint64) (out []api.WorkerState) {
		for i := range 2 {
			out = append(out, api.WorkerState{Owner: fmt.Sprint(i), Began: began, Consistency: &report.Stats{Windows: []report.Window{{Tier: report.TierLocal, Seconds: 1, Checks: n, Violations: n / 10}}}})
		}
		return out
	}
	cs.note(workers(began, 1000), began)
	cs.note(workers(began, 1100), began.Add(historyEvery/2)) // too early
	if len(cs.points) > 0 {
		t.Fatalf("points of one look: %+v", cs.points)
	}
	cs.note(workers(began, 1200), began.Add(historyEvery))
	cs.note(workers(began.Add(time.Hour), 10), began.Add(2*historyEvery)) // both began again
	cs.note(nil, began.Add(3*historyEvery))
	if len(cs.points) != 1 || len(cs.before) != 0 {
		t.Fatalf("%+v", cs.points)
	}
	if w := cs.points[0].Windows; len(w) != 1 || w[0].Checks != 400 || w[0].Violations != 40 || !cs.points[0].At.Equal(began.Add(historyEvery)) {
		t.Errorf("%+v", cs.points[0])
	}
	for i := range 1000 {
		cs.note(workers(began, uint64(i)), began.Add(time.Duration(10+i)*historyEvery))
	}
	if len(cs.points) != int(historyKept/historyEvery) {
		t.Errorf("%d points", len(cs.points))
	}
}
