package worker

import (
	"context"
	"errors"
)

// PauseIdle notes pauses as refused batches do, for partitions that have no batch.
func (w *Worker) PauseIdle(topic string) {
	for _, p := range w.partitions() {
		if p.id.Topic == topic {
			w.pauses.refuse(p, errors.New("a batch that is not in the log any more"))
		}
	}
}

// Purge removes what is due now.
func (w *Worker) Purge(ctx context.Context) { w.purge(ctx) }
