package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/schemas"
)

// There are two kinds of pause. One that is noted in MySQL holds for all workers and beyond their lives, until the note
// is removed: somebody's wish, or a storm. One that is only remembered here is for a dataset that cannot be written just
// now: it is tried again every ProbeInterval.

// pause is a topic that is set aside until it can be written again: a dataset's, or the invalidation topic.
type pause struct {
	why     string
	dataset string // "" for the invalidation topic
}

// subject names what is paused.
func (p pause) subject(topic string) string {
	if p.dataset == "" {
		return "topic " + topic
	}
	return "dataset " + p.dataset
}

// followPauses does what the notes say. The lock keeps an older reading from undoing a newer one.
func (w *Worker) followPauses(ctx context.Context) error {
	if w.cfg.Pauses == nil {
		return nil
	}
	if err := w.pauseLock.acquire(ctx); err != nil {
		return err
	}
	defer w.pauseLock.release()
	noted, err := w.cfg.Pauses.Pauses(ctx)
	if err != nil {
		return err
	}
	for _, d := range w.cfg.Datasets.All() {
		p, ok := noted[d.Name]
		w.mu.Lock()
		_, held := w.held[d.Name]
		w.mu.Unlock()
		switch {
		case ok && !held:
			w.hold(d, p)
		case !ok && held:
			w.letGo(d)
		}
	}
	return nil
}

// hold sets a dataset aside: its running batches finish, and nothing more of it is read.
func (w *Worker) hold(d *schemas.Dataset, p replica.Pause) {
	w.mu.Lock()
	w.held[d.Name] = p
	w.mu.Unlock()
	w.consumer.Pause(d.Topic)
	w.log.Error("dataset is paused until somebody resumes it", "dataset", d.Name, "who", p.Who, "why", p.Why, "since", p.Since)
}

func (w *Worker) letGo(d *schemas.Dataset) {
	w.mu.Lock()
	delete(w.held, d.Name)
	delete(w.storms, d.Name) // what was counted led to the pause, and must not lead to the next
	w.mu.Unlock()
	w.consumer.Resume(d.Topic)
	w.log.Info("dataset is resumed", "dataset", d.Name)
}

// checkPauses is followPauses for the watch.
func (w *Worker) checkPauses(ctx context.Context) {
	const what = "mysql: read pauses"
	if err := w.followPauses(ctx); err == nil {
		w.healed(what)
	} else if ctx.Err() == nil {
		w.fault(what, err)
	}
}

// whyHeld is the sentence of readiness about a dataset whose pause is noted.
func whyHeld(d string, p replica.Pause) string {
	return fmt.Sprintf("dataset %s is paused since %s by %s: %s; go on with `freshet datasets resume %s`",
		d, p.Since.UTC().Format(time.RFC3339), p.Who, p.Why, d)
}

// pause notes that p's topic is set aside. When p's generation has ended it is not for this worker to say.
func (w *Worker) pause(p *partition, why error) {
	topic, set := p.id.Topic, pause{why: why.Error()}
	if p.dataset != nil {
		set.dataset = p.dataset.Name
	}
	w.mu.Lock()
	if p.ended() { // disown closes over before it forgets the pauses
		w.mu.Unlock()
		return
	}
	_, known := w.paused[topic]
	w.paused[topic] = set
	p.stopped = true
	w.mu.Unlock()
	if !known {
		w.log.Error("paused until it can be written again", "what", set.subject(topic), "error", why)
	}
}

// resumed notes that p goes on. Its topic stays noted while another partition of it waits: only what is noted is tried again.
func (w *Worker) resumed(p *partition) {
	topic := p.id.Topic
	w.mu.Lock()
	if p.ended() {
		w.mu.Unlock()
		return
	}
	p.stopped = false
	for _, other := range w.parts {
		if other.id.Topic == topic && other.stopped {
			w.mu.Unlock()
			return
		}
	}
	set, known := w.paused[topic]
	delete(w.paused, topic)
	w.mu.Unlock()
	if known {
		w.log.Info("what was paused goes on", "what", set.subject(topic))
	}
}

// probePaused lets topics try again that could not be written; one that is still broken pauses anew. The lock keeps it from
// undoing a pause that is being noted.
func (w *Worker) probePaused(ctx context.Context) {
	if err := w.pauseLock.acquire(ctx); err != nil {
		return
	}
	defer w.pauseLock.release()
	w.forgetIdle()
	w.mu.Lock()
	var topics []string
	for topic, p := range w.paused {
		if _, held := w.held[p.dataset]; !held {
			topics = append(topics, topic)
		}
	}
	w.mu.Unlock()
	for _, t := range topics {
		w.consumer.Resume(t)
	}
}

// forgetIdle ends the pauses of partitions that have nothing to apply any more: the batch that could not be applied is gone
// from the log, which was cut or left out by a restart, and no next one would report that the partition goes on.
func (w *Worker) forgetIdle() {
	for _, st := range w.consumer.Stats().Partitions {
		if st.Paused || st.Lost || st.Stopped || st.HighWater < 0 || st.Fetched < st.HighWater || st.Applied < st.HighWater {
			continue
		}
		p := w.partition(st.Partition)
		if p == nil || p.retired {
			continue
		}
		w.mu.Lock()
		stopped := p.stopped
		w.mu.Unlock()
		if stopped {
			w.resumed(p)
		}
	}
}
