package worker

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// A topic is paused for two reasons, which may hold at the same time. A pause that is noted in MySQL holds for all workers
// and beyond their lives, until the note is removed: an operator's decision, or a storm of dead letters. A topic with
// refused batches, which cannot be written now, is paused by this worker alone and tried again every ProbeInterval.

// pause is why nothing of a topic is read.
type pause struct {
	dataset string         // "" for the invalidation topic
	noted   *replica.Pause // nil without a note
	// refused are the partitions whose last batch could not be written, and why the newest of them could not.
	refused map[*partition]struct{}
	why     string
}

// subject returns what is paused, for a sentence.
func (p *pause) subject(topic string) string {
	if p.dataset == "" {
		return "topic " + topic
	}
	return "dataset " + p.dataset
}

// pauses are the paused topics of a worker.
type pauses struct {
	*core

	// following is held while notes are read and followed, so that an older reading does not undo a newer one.
	following ctxMutex

	mu      sync.Mutex
	byTopic map[string]*pause
	storms  map[string]*storm // by dataset
}

func newPauses(c *core) *pauses {
	return &pauses{core: c, following: make(ctxMutex, 1), byTopic: map[string]*pause{}, storms: map[string]*storm{}}
}

// of returns the topic's pause, and adds one without a reason if there is none. The mutex is held.
func (ps *pauses) of(topic, dataset string) *pause {
	p := ps.byTopic[topic]
	if p == nil {
		p = &pause{dataset: dataset, refused: map[*partition]struct{}{}}
		ps.byTopic[topic] = p
	}
	return p
}

// tidy removes the topic's pause if no reason is left. The mutex is held.
func (ps *pauses) tidy(topic string) {
	if p := ps.byTopic[topic]; p != nil && p.noted == nil && len(p.refused) == 0 {
		delete(ps.byTopic, topic)
	}
}

// isNoted reports whether the topic's pause is noted in MySQL.
func (ps *pauses) isNoted(topic string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byTopic[topic]
	return p != nil && p.noted != nil
}

// isRefused reports whether batches of the topic are refused.
func (ps *pauses) isRefused(topic string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byTopic[topic]
	return p != nil && len(p.refused) > 0
}

// follow pauses and resumes datasets as the notes say.
func (ps *pauses) follow(ctx context.Context) error {
	if err := ps.following.acquire(ctx); err != nil {
		return err
	}
	defer ps.following.release()
	noted, err := ps.cfg.Replica.Pauses.All(ctx)
	if err != nil {
		return err
	}
	for _, d := range ps.cfg.Datasets.All() {
		p, ok := noted[d.Name]
		switch known := ps.isNoted(d.Topic); {
		case ok && !known:
			ps.note(d, p)
		case !ok && known:
			ps.resume(d)
		}
	}
	return nil
}

// note pauses a dataset: its running batches finish, and nothing more of it is read.
func (ps *pauses) note(d *schemas.Dataset, p replica.Pause) {
	ps.mu.Lock()
	ps.of(d.Topic, d.Name).noted = &p
	ps.mu.Unlock()
	ps.consumer.Pause(d.Topic)
	ps.log.Error("dataset is paused until an operator resumes it", "dataset", d.Name, "actor", p.Who, "reason", p.Why, "since", p.Since)
}

// resume ends a dataset's noted pause.
func (ps *pauses) resume(d *schemas.Dataset) {
	ps.mu.Lock()
	ps.of(d.Topic, d.Name).noted = nil
	ps.tidy(d.Topic)
	delete(ps.storms, d.Name) // what was counted led to the pause, and must not lead to the next
	ps.mu.Unlock()
	ps.consumer.Resume(d.Topic)
	ps.log.Info("dataset is resumed", "dataset", d.Name)
}

// check is follow for the watch.
func (ps *pauses) check(ctx context.Context) {
	const what = "mysql: read pauses"
	if err := ps.follow(ctx); err == nil {
		ps.faults.end(what)
	} else if ctx.Err() == nil {
		ps.faults.add(what, err)
	}
}

// whyNoted is the sentence of readiness about a dataset whose pause is noted.
func whyNoted(d string, p *replica.Pause) string {
	return fmt.Sprintf("dataset %s is paused since %s by %s: %s; resume it with `freshet datasets resume %s`",
		d, p.Since.UTC().Format(time.RFC3339), p.Who, p.Why, d)
}

// refuse notes that a batch of p cannot be written now. A partition whose generation has ended is its next owner's.
func (ps *pauses) refuse(p *partition, why error) {
	topic, dataset := p.id.Topic, ""
	if p.dataset != nil {
		dataset = p.dataset.Name
	}
	ps.mu.Lock()
	if p.ended() { // disown closes over before it forgets the refused partitions
		ps.mu.Unlock()
		return
	}
	set := ps.of(topic, dataset)
	known := len(set.refused) > 0
	set.refused[p], set.why = struct{}{}, why.Error()
	ps.mu.Unlock()
	if !known {
		ps.log.Error("paused until it can be written again", "dataset", dataset, "topic", topic, "error", why)
	}
}

// accepted notes that a batch of p was written. Its topic stays paused while another partition of it is refused: only what
// is paused is tried again.
func (ps *pauses) accepted(p *partition) {
	topic := p.id.Topic
	ps.mu.Lock()
	set := ps.byTopic[topic]
	if p.ended() || set == nil || len(set.refused) == 0 {
		ps.mu.Unlock()
		return
	}
	delete(set.refused, p)
	over := len(set.refused) == 0
	ps.tidy(topic)
	ps.mu.Unlock()
	if over {
		ps.log.Info("written again", "dataset", set.dataset, "topic", topic)
	}
}

// disown forgets the refused partitions, whose generation has ended.
func (ps *pauses) disown() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for topic, p := range ps.byTopic {
		clear(p.refused)
		ps.tidy(topic)
	}
}

// probe lets refused topics try again; one that still cannot be written is refused again. The lock keeps it from undoing a
// pause that is being noted.
func (ps *pauses) probe(ctx context.Context) {
	if err := ps.following.acquire(ctx); err != nil {
		return
	}
	defer ps.following.release()
	ps.forgetIdle()
	ps.mu.Lock()
	var topics []string
	for topic, p := range ps.byTopic {
		if p.noted == nil {
			topics = append(topics, topic)
		}
	}
	ps.mu.Unlock()
	for _, t := range topics {
		ps.consumer.Resume(t)
	}
}

// forgetIdle ends the refusals of partitions that have nothing to apply any more: the batch that could not be applied is
// gone from the log, which was cut or skipped by a restart, so no next batch would report that the partition continues.
func (ps *pauses) forgetIdle() {
	for _, st := range ps.consumer.Stats().Partitions {
		if st.Paused || st.Lost || st.Stopped || st.LastStable < 0 || st.Fetched < st.LastStable || st.Applied < st.LastStable {
			continue
		}
		if p := ps.partition(st.Partition); p != nil && !p.retired {
			ps.accepted(p)
		}
	}
}

// patience is how long a batch of p may wait before its topic releases its writer: the others need it. A topic that is
// refused already is only being tried.
func (ps *pauses) patience(p *partition) time.Duration {
	if ps.isRefused(p.id.Topic) {
		return min(ps.cfg.CheckInterval, ps.cfg.PauseAfter)
	}
	return ps.cfg.PauseAfter
}

// causes returns why each paused dataset is paused; the invalidation topic is listed by its topic.
func (ps *pauses) causes() map[string]string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := make(map[string]string, len(ps.byTopic))
	for topic, p := range ps.byTopic {
		why := p.why
		if p.noted != nil {
			why = p.noted.Why
		}
		out[cmp.Or(p.dataset, topic)] = why
	}
	return out
}

// reasons returns one sentence of readiness for each reason of each pause.
func (ps *pauses) reasons() (out []string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for topic, p := range ps.byTopic {
		if len(p.refused) > 0 {
			out = append(out, p.subject(topic)+" is paused: "+p.why)
		}
		if p.noted != nil {
			out = append(out, whyNoted(p.dataset, p.noted))
		}
	}
	return out
}
