package relay

import (
	"log/slog"
	"testing"
)

// The last row of a dataset had no outcome for a while, and then Kafka took it: no other row will show that the obstacle is gone.
func TestAnObstacleEndsWithItsOnlyRow(t *testing.T) {
	o := obstacles{log: slog.New(slog.DiscardHandler), all: map[string]obstacle{}}
	o.stick("items")
	o.stick("others")
	o.passed("items")
	if len(o.reasons()) != 2 {
		t.Fatal("an obstacle is gone although records have no outcome")
	}
	o.unstick(func(string) bool { return false })
	if left := o.reasons(); left["items"] != nil || left["others"] == nil {
		t.Errorf("left are %v; Kafka took the row of items, and none of others", left)
	}
}
