package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/kafkalog"
)

// A topic id that another one has replaced comes back when Kafka is failed back to an earlier cluster, or when a broker's view is
// old. Reading on by itself could repeat an old history over a newer one, so an operator decides; only that topic waits.

var errAccepted = errors.New("an operator accepted an earlier topic id")

func errRetired(id kafkalog.Partition) error {
	return fmt.Errorf("topic %s has an id (%s) that another one had replaced, as after going back to an earlier Kafka cluster; if that is intended, run freshet partitions accept %s",
		id.Topic, id.TopicID, id.Topic)
}

// followAccepted ends the generation once an operator has accepted the id of a topic that waits for it.
func (tw *topicWatch) followAccepted(ctx context.Context) {
	const what = "mysql: read retired topic ids"
	for _, p := range tw.partitions() {
		if !p.retired {
			continue
		}
		retired, err := tw.cfg.Topics.Retired(ctx, p.id.Topic, p.id.TopicID)
		switch {
		case err != nil:
			tw.faults.add(what, err)
			return
		case !retired:
			tw.consumer.Rejoin(p.generation, errAccepted)
			return
		}
		tw.faults.end(what)
	}
}
