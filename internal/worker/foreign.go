package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// A wrong or misspelt cdc.table makes every record of a topic another table's: all of them are ignored, nothing lags, and
// the replica stays empty. So a dataset that has only ever seen records of other tables is reported.

// sights remember what the topics of captured datasets have brought since the assignment.
type sights struct {
	mu        sync.Mutex
	byDataset map[string]*sight
}

type sight struct {
	dataset *schemas.Dataset
	// own: a row of the dataset was seen, or its table has some.
	own     bool
	foreign uint64
	last    string // the table of the last foreign record
	// empty: the table was looked at and has no row.
	empty bool
}

// note counts a batch that was applied.
func (s *sights) note(d *schemas.Dataset, p *prepared) {
	if d == nil || d.CDC == nil || d.CDC.Table == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byDataset == nil {
		s.byDataset = map[string]*sight{}
	}
	seen := s.byDataset[d.Name]
	if seen == nil {
		seen = &sight{dataset: d}
		s.byDataset[d.Name] = seen
	}
	seen.own = seen.own || p.events > 0
	seen.foreign += uint64(p.ignored[cdc.OtherTable])
	if p.other != "" {
		seen.last = p.other
	}
}

// doubtful lists the datasets that have seen records of other tables and none of their own.
func (s *sights) doubtful() (list []*schemas.Dataset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.byDataset {
		if !seen.own && seen.foreign > 0 && !seen.empty {
			list = append(list, seen.dataset)
		}
	}
	return list
}

// found notes whether a dataset's table has rows, and reports whether that makes it one to report.
func (s *sights) found(d *schemas.Dataset, rows bool) (why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.byDataset[d.Name]
	if seen == nil || seen.own {
		return ""
	}
	seen.own, seen.empty = rows, !rows
	return seen.why()
}

// why is the sentence of readiness; "" if there is nothing to report.
func (s *sight) why() string {
	if s.own || !s.empty {
		return ""
	}
	return fmt.Sprintf("dataset %s has never had a row: all %d records of its topic were ignored, since they are of other tables (the last one of %s) and cdc.table is %s; compare the names, capitals count",
		s.dataset.Name, s.foreign, s.last, s.dataset.CDC.Table)
}

func (s *sights) reasons() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.byDataset {
		if why := seen.why(); why != "" {
			out = append(out, why)
		}
	}
	return out
}

// foreignOnly returns the number of foreign records by dataset.
func (s *sights) foreignOnly() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]uint64{}
	for name, seen := range s.byDataset {
		if seen.why() != "" {
			out[name] = seen.foreign
		}
	}
	return out
}

// forget begins again with the next assignment.
func (s *sights) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byDataset)
}

// checkForeign looks at the tables of datasets that have seen records of other tables alone.
func (w *Worker) checkForeign(ctx context.Context) {
	for _, d := range w.sights.doubtful() {
		has, err := w.cfg.Replica.Rows.Any(ctx, d)
		if err != nil {
			w.log.Debug("table of a dataset cannot be looked at", "dataset", d.Name, "error", err)
			continue
		}
		if why := w.sights.found(d, has); why != "" {
			w.log.Warn("only records of other tables have come", "dataset", d.Name, "reason", why)
		}
	}
}
