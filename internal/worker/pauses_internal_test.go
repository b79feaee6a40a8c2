package worker

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A batch that was under way when its generation ended may find its dataset broken only then: another worker has the
// partition, and no one here would ever take the pause back.
func TestPauseOfWhatIsNotOwned(t *testing.T) {
	t.Parallel()
	c := newCore(Config{Logger: slog.New(slog.DiscardHandler)})
	h := &handler{&Worker{core: c, pauses: newPauses(c)}}
	p := &partition{id: kafkalog.Partition{Topic: "t"}, over: make(chan struct{})}
	h.pauses.refuse(p, errors.New("broken"))
	if !h.pauses.isRefused("t") {
		t.Fatal("the pause is not noted")
	}
	h.disown(map[kafkalog.Partition]*partition{p.id: p})
	h.pauses.refuse(p, errors.New("broken"))
	if h.pauses.isRefused("t") || len(h.pauses.causes()) != 0 {
		t.Error("the pause stays permanently")
	}
}
