package consistency

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/schemas"
)

// Report is what Verify found.
type Report struct {
	// Records were compared; Copies of them are entries with a version that readers get.
	Records int `json:"records"`
	Copies  int `json:"copies"`
	// Stale copies are older than the replica, although their lanes were notified of the change.
	Stale []report.Stale `json:"stale"`
	// Ahead copies have a version above the replica's, and kept it while the row was looked at again.
	Ahead []report.Stale `json:"ahead"`
	// Waiting copies are older too, but the change has not been emitted to their lanes yet: a worker is behind.
	Waiting int `json:"waiting"`
}

// Verify compares the copies of up to records rows of each of the datasets with the replica, in the order of the keys
// behind after; records 0 means all. A copy that seems to be stale is looked at again at the end, cfg.Confirm later, and
// counts only if it still is. Of cfg, only Datasets, Replica, Tiers and
// Confirm are used.
func Verify(ctx context.Context, cfg Config, after string, records int, datasets ...*schemas.Dataset) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	r := Report{Stale: []report.Stale{}, Ahead: []report.Stale{}}
	var suspects []*sample
	for _, d := range datasets {
		if d.Cache == nil {
			continue
		}
		for left, at := records, after; records == 0 || left > 0; {
			n := maxNames
			if records > 0 {
				n = min(n, left)
			}
			page, more, err := verifyPage(ctx, &cfg, &r, d, at, n)
			if err != nil {
				return r, err
			}
			suspects = append(suspects, page...)
			if more == "" {
				break
			}
			at, left = more, left-n
		}
	}
	return r, r.settle(ctx, &cfg, suspects)
}

// verifyPage looks at n rows behind after, and says behind which key to continue; "" when there are no more.
func verifyPage(ctx context.Context, cfg *Config, r *Report, d *schemas.Dataset, after string, n int) (suspects []*sample, more string, err error) {
	keys, err := cfg.Replica.Keys(ctx, d, after, n)
	if err != nil || len(keys) == 0 {
		return nil, "", err
	}
	versions, err := cfg.Replica.Versions(ctx, d, keys)
	if err != nil {
		return nil, "", fmt.Errorf("read versions: %w", err)
	}
	applied, err := cfg.Replica.Applied(ctx, d.Topic)
	if err != nil {
		return nil, "", fmt.Errorf("read positions: %w", err)
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		if names[i], err = d.CacheKey(k); err != nil {
			return nil, "", fmt.Errorf("name cache key: %w", err)
		}
	}
	copies, err := cfg.Tiers.Look(ctx, names...)
	if err != nil {
		return nil, "", fmt.Errorf("look at copies: %w", err)
	}
	later, err := versionsAfter(ctx, cfg, d, keys, versions, copies)
	if err != nil {
		return nil, "", err
	}
	now := time.Now()
	for i := range copies {
		r.Records++
		r.Copies += served(&copies[i])
		if v := versions[keys[i]]; len(copies[i].Older(v)) > 0 || len(copies[i].Above(max(v, later[keys[i]]))) > 0 {
			suspects = append(suspects, &sample{candidate: candidate{d, keys[i]}, name: names[i], version: v, applied: applied, taken: now})
		}
	}
	if len(keys) == n {
		more = keys[n-1]
	}
	return suspects, more, nil
}

// versionsAfter reads the rows again whose copies claim more than they had: most were changed meanwhile.
func versionsAfter(ctx context.Context, cfg *Config, d *schemas.Dataset, keys []string, versions map[string]int64, copies []report.Copies) (map[string]int64, error) {
	var above []string
	for i, k := range keys {
		if len(copies[i].Above(versions[k])) > 0 {
			above = append(above, k)
		}
	}
	if len(above) == 0 {
		return nil, nil
	}
	later, err := cfg.Replica.Versions(ctx, d, above)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return later, nil
}

// settle waits as long as a copy may be stale, and looks again.
func (r *Report) settle(ctx context.Context, cfg *Config, suspects []*sample) error {
	if len(suspects) == 0 {
		return nil
	}
	t := time.NewTimer(cfg.Confirm)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
	}
	for _, x := range suspects {
		old, waits, err := check(ctx, cfg, x)
		if err != nil {
			return err
		}
		if waits { // the worker is behind, and the row with it
			r.Waiting += len(old)
			continue
		}
		for _, o := range old {
			if o.Ahead {
				r.Ahead = append(r.Ahead, x.finding(o))
			} else {
				r.Stale = append(r.Stale, x.finding(o))
			}
		}
	}
	return nil
}

// served counts the entries with a version that readers get.
func served(c *report.Copies) (n int) {
	for i := range c.Nodes {
		if c.Nodes[i].Served && c.Nodes[i].Version > 0 {
			n++
		}
	}
	if s := &c.Shared; s.State == "value" && s.Valid && s.Version > 0 {
		n++
	}
	return n
}
