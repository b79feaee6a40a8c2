package consumer

import (
	"cmp"
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/boot"
	"github.com/freshet/freshet/internal/replica"
)

// replayWriters are enough for the partitions that a replay reads at a time, its lease, and a spare one.
const replayWriters = 4

// databases are the connections of a worker to MySQL: replays have some of their own.
type databases struct {
	main, replays *replica.DB
	// formerLanes: no dataset is cached, but the namespace has lanes. They are written, or nodes that still have a cache section
	// would serve entries that no worker makes stale any more. Redis may be away meanwhile.
	formerLanes bool
}

// openDatabases opens both and looks at the tables.
func openDatabases(ctx context.Context, c *Config) (_ *databases, err error) {
	d := &databases{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	writers := cmp.Or(c.Writers, DefaultWriters)
	if d.main, err = openReplica(ctx, c, writers, max(0, c.MySQL.MaxConns-writers)); err != nil {
		return nil, err
	}
	if err = boot.Replica(ctx, d.main, c.Namespace, c.Group, c.Datasets, c.Logger); err != nil {
		return nil, err
	}
	if d.replays, err = openReplica(ctx, c, replayWriters, 0); err != nil {
		return nil, err
	}
	if _, err = d.replays.Prepare(ctx, c.Datasets.All()); err != nil {
		return nil, fmt.Errorf("check replica tables: %w", err)
	}
	if !c.Datasets.Cached() {
		d.formerLanes, err = d.main.Lanes(c.Namespace).Known(ctx)
	}
	return d, err
}

func openReplica(ctx context.Context, c *Config, writers, reads int) (*replica.DB, error) {
	return replica.Open(ctx, replica.Config{MySQL: c.database(writers, reads), SessionTimeout: c.SessionTimeout})
}

// close closes what is open; nil is none.
func (d *databases) close() {
	if d == nil {
		return
	}
	for _, db := range []*replica.DB{d.replays, d.main} {
		if db != nil {
			_ = db.Close() // nothing is written any more
		}
	}
}
