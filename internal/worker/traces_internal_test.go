package worker

import (
	"fmt"
	"testing"

	"github.com/freshet/freshet/invalidation/lane"
)

// A lane's share of a batch has the traces of its own keys; a stamp stands for all of them, and what is covered already has none.
func TestTracesOfALane(t *testing.T) {
	t.Parallel()
	p := &prepared{tracing: &tracing{events: []traced{{parent: "1", key: "a"}, {parent: "2", key: "b"}, {parent: "3", key: "a"}}}}
	share := []lane.Item{{Key: "a", Version: 7}, {Key: "c"}}
	for how, want := range map[verdict]string{oneByOne: "[{1 a} {3 a}]", byStamp: "[{1 } {3 }]", covered: "[]"} {
		if got := fmt.Sprint(p.traces(share, how)); got != want {
			t.Errorf("verdict %d: %s, want %s", how, got, want)
		}
	}
	if got := (&prepared{}).traces(share, oneByOne); got != nil {
		t.Errorf("without traces: %v", got)
	}
}
