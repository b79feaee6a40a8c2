package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// A storm of dead letters is most likely a bad deploy of a publisher: at least StormLetters letters, and more than
// one of StormShare events, within StormWindow on one worker. The dataset is then paused before the rest of its events
// become letters too.
const (
	StormLetters = 200
	StormShare   = 20
	StormWindow  = 10 * time.Second
)

// storm counts one dataset's events and letters by the second. pauses.mu guards it.
type storm struct {
	seconds [StormWindow / time.Second]struct {
		at              int64
		events, letters int
	}
}

// add counts what happened at now, and reports whether the dataset's letters have become a storm.
func (s *storm) add(now time.Duration, events, letters int) (stormy bool, inWindow int) {
	at := int64(now / time.Second)
	cur := &s.seconds[at%int64(len(s.seconds))]
	if cur.at != at {
		cur.at, cur.events, cur.letters = at, 0, 0
	}
	cur.events += events
	cur.letters += letters
	allEvents, allLetters := 0, 0
	for _, c := range s.seconds {
		if at-c.at < int64(len(s.seconds)) {
			allEvents, allLetters = allEvents+c.events, allLetters+c.letters
		}
	}
	return allLetters >= StormLetters && allLetters*StormShare > allEvents, allLetters
}

// watchStorm counts a batch, and pauses the dataset if its letters have become a storm.
func (ps *pauses) watchStorm(ctx context.Context, d *schemas.Dataset, events, letters int) error {
	if d == nil {
		return nil
	}
	ps.mu.Lock()
	s := ps.storms[d.Name]
	if s == nil {
		s = &storm{}
		ps.storms[d.Name] = s
	}
	stormy, n := s.add(ps.now(), events, letters)
	ps.mu.Unlock()
	if !stormy || ps.isNoted(d.Topic) {
		return nil
	}
	ps.counts.storms.Add(1)
	if flows, err := ps.flowsInStorm(ctx, d, n); err != nil || flows {
		return err
	}
	why := fmt.Sprintf("%d dead letters within %s; correct what is published, or the table, then redrive; freshet datasets resume --ignore-storms 2h lets them come", n, StormWindow)
	const what = "mysql: note the pause of a dataset"
	err := retry.Do(ctx, retry.Policy{Notify: ps.faults.hook(what)}, func(ctx context.Context) error {
		if err := ps.following.acquire(ctx); err != nil {
			return err
		}
		defer ps.following.release()
		p, err := ps.cfg.Replica.Pauses.Add(ctx, d.Name, ps.cfg.Owner, why)
		if err == nil {
			ps.note(d, p)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("pause dataset %s: %w", d.Name, err)
	}
	ps.faults.end(what)
	return nil
}

// flowsInStorm reports whether the dataset continues all the same, by its declaration or by an operator's word, and logs the
// storm then. Counting begins again, so the log has one line for each further storm.
func (ps *pauses) flowsInStorm(ctx context.Context, d *schemas.Dataset, letters int) (flows bool, err error) {
	const what = "mysql: read whether storms are ignored"
	flows = d.FlowInStorms
	if !flows {
		err = retry.Do(ctx, retry.Policy{Notify: ps.faults.hook(what)}, func(ctx context.Context) error {
			var err error
			flows, err = ps.cfg.Replica.Pauses.IgnoresStorms(ctx, d.Name)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("%s: %w", what, err)
		}
		ps.faults.end(what)
	}
	if flows {
		ps.mu.Lock()
		delete(ps.storms, d.Name)
		ps.mu.Unlock()
		ps.log.ErrorContext(ctx, "storm of dead letters; the dataset continues, as configured", "dataset", d.Name, "letters", letters, "window_seconds", StormWindow)
	}
	return flows, nil
}
