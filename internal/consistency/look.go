package consistency

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/freshet/freshet/admin/report"
)

// look asks the tiers for the samples that are due.
func (s *Sampler) look(ctx context.Context) error {
	now := time.Now()
	var due []*sample
	for _, x := range s.samples {
		if !x.due.After(now) {
			due = append(due, x)
		}
	}
	defer func() { s.samples = slices.DeleteFunc(s.samples, s.finished) }()
	for len(due) > 0 {
		chunk := due[:min(len(due), maxNames)]
		names := make([]string, len(chunk))
		for i, x := range chunk {
			names[i] = x.name
		}
		copies, err := s.cfg.Tiers.Look(ctx, names...)
		if err != nil {
			for _, x := range due { // nothing is known of them at this window
				s.move(x, now)
			}
			return fmt.Errorf("look at copies: %w", err)
		}
		for i, x := range chunk {
			if err := s.judge(ctx, x, &copies[i], now); err != nil {
				return err
			}
		}
		due = due[len(chunk):]
	}
	return nil
}

func (s *Sampler) finished(x *sample) bool {
	return x.window >= len(s.cfg.Windows) && !x.suspect && x.old == nil
}

// move sets when a sample is looked at next.
func (s *Sampler) move(x *sample, now time.Time) {
	switch {
	case x.suspect || x.old != nil:
		x.due = now.Add(s.cfg.Confirm)
	case x.window+1 < len(s.cfg.Windows):
		x.window++
		x.due = x.taken.Add(s.cfg.Windows[x.window])
	default:
		x.window = len(s.cfg.Windows)
	}
}

// judge counts what was seen of a sample, and reports what becomes of it.
func (s *Sampler) judge(ctx context.Context, x *sample, c *report.Copies, now time.Time) error {
	again := x.suspect || x.old != nil
	old := c.Older(x.version)
	waits := false
	suspicious := len(old) > 0
	if !suspicious && (again || s.cfg.Windows[x.window] >= s.cfg.Alarm) {
		var err error
		if suspicious, err = s.above(ctx, x, c); err != nil {
			s.move(x, now)
			return err
		}
	}
	if suspicious {
		var err error
		if old, waits, err = check(ctx, &s.cfg, x); err != nil {
			s.move(x, now)
			return err
		}
	}
	window := x.window
	switch {
	case waits && again: // Redis lost something meanwhile: nothing is known
	case again:
		s.confirm(x, old, now)
	default:
		x.suspect = len(old) > 0 && !waits && s.cfg.Windows[window] >= s.cfg.Alarm
		s.mu.Lock()
		s.counts.saw(window, c, slices.DeleteFunc(old, func(o report.Old) bool { return o.Ahead }), waits)
		s.mu.Unlock()
	}
	s.move(x, now)
	return nil
}

// above reports whether a copy claims more than the row has now. The row is read after the copy, so what a load has read of the replica is not
// above it.
func (s *Sampler) above(ctx context.Context, x *sample, c *report.Copies) (bool, error) {
	if len(c.Above(x.version)) == 0 {
		return false, nil
	}
	versions, err := s.cfg.Replica.Versions(ctx, x.dataset, []string{x.key})
	if err != nil {
		return false, fmt.Errorf("read versions: %w", err)
	}
	return len(c.Above(versions[x.key])) > 0, nil
}

// check looks again at a sample that seems to be stale, in an order that leaves no doubt: first whether the lane was notified of
// the change, then whether the row still has that version (a rebuild may put an older one in its place), then the copies, and then the row again if
// one of them claims more than it.
func check(ctx context.Context, cfg *Config, x *sample) (old []report.Old, waits bool, err error) {
	told, err := cfg.Tiers.Told(ctx, x.name, x.applied)
	if err != nil {
		return nil, false, fmt.Errorf("look at watermarks: %w", err)
	}
	versions, err := cfg.Replica.Versions(ctx, x.dataset, []string{x.key})
	if err != nil {
		return nil, false, fmt.Errorf("read versions: %w", err)
	}
	copies, err := cfg.Tiers.Look(ctx, x.name)
	if err != nil {
		return nil, false, fmt.Errorf("look at copies: %w", err)
	}
	old = copies[0].Older(min(x.version, versions[x.key]))
	if len(copies[0].Above(versions[x.key])) == 0 {
		return old, !told, nil
	}
	if versions, err = cfg.Replica.Versions(ctx, x.dataset, []string{x.key}); err != nil { // after the copies: see above
		return nil, false, fmt.Errorf("read versions: %w", err)
	}
	return append(old, copies[0].Above(versions[x.key])...), !told, nil
}

// confirm raises an alarm, or ends one.
func (s *Sampler) confirm(x *sample, old []report.Old, now time.Time) {
	log := s.cfg.Logger.With("component", "consistency", "dataset", x.dataset.Name)
	x.suspect = false
	known := x.old
	if len(known) == 0 && s.alarmed(x.candidate) {
		return // another sample of the record reports it
	}
	x.old = old
	if len(known) > 0 && len(old) == 0 {
		log.Info("a stale copy is gone", "duration_seconds", now.Sub(x.since))
	}
	if len(known) == 0 && len(old) > 0 {
		x.since = now
		if s.alarms() > maxStale {
			x.old = nil // it is counted and told, not kept
		}
	}
	for _, o := range old {
		if slices.ContainsFunc(known, func(k report.Old) bool { return k.Tier == o.Tier && k.Node == o.Node && k.Ahead == o.Ahead }) {
			continue
		}
		s.mu.Lock()
		s.counts.alarms[o.Tier]++
		s.mu.Unlock()
		log := log.With("tier", o.Tier, "node", o.Node, "version", o.Version, "replica_version", x.finding(o).Replica)
		if o.Ahead {
			log.Error("readers get a copy whose version is above the replica's, so that changes leave it in place; `freshet doctor` names the record")
		} else {
			log.Error("readers get a copy that is older than the replica; `freshet doctor` names the record", "age_seconds", now.Sub(x.taken))
		}
	}
	s.mu.Lock()
	s.counts.stale = s.stale()
	s.mu.Unlock()
}

func (s *Sampler) alarms() (n int) {
	for _, x := range s.samples {
		if x.old != nil {
			n++
		}
	}
	return n
}

func (s *Sampler) alarmed(c candidate) bool {
	return slices.ContainsFunc(s.samples, func(x *sample) bool { return x.old != nil && x.candidate == c })
}

// stale lists the alarms.
func (s *Sampler) stale() []report.Stale {
	var out []report.Stale
	for _, x := range s.samples {
		for _, o := range x.old {
			out = append(out, x.finding(o))
		}
	}
	return out
}

func (x *sample) finding(o report.Old) report.Stale {
	if o.Ahead {
		return report.Stale{Old: o, Dataset: x.dataset.Name, Key: x.key, Replica: o.Row, Since: x.taken.UTC()}
	}
	return report.Stale{Old: o, Dataset: x.dataset.Name, Key: x.key, Replica: x.version, Since: x.taken.UTC()}
}
