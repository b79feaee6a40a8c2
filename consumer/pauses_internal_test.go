package consumer

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A batch that was under way when its generation ended may find its dataset broken only then: another worker has the
// partition, and nobody here would ever take the pause back.
func TestPauseOfWhatIsNotOwned(t *testing.T) {
	t.Parallel()
	w := &Worker{log: slog.New(slog.DiscardHandler), paused: map[string]pause{}, faults: map[string]fault{}}
	p := &partition{id: kafkalog.Partition{Topic: "t"}, over: make(chan struct{})}
	w.pause(p, errors.New("broken"))
	if len(w.paused) != 1 {
		t.Fatal("the pause is not noted")
	}
	w.disown(map[kafkalog.Partition]*partition{p.id: p})
	w.pause(p, errors.New("broken"))
	if len(w.paused) != 0 {
		t.Error("the pause stays for ever")
	}
}
