package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// replayWriters are enough for the partitions that a replay reads at a time, its lease, and a spare one.
const replayWriters = 4

// databases are the connections of a worker's process to MySQL: replays have some of their own.
type databases struct {
	main, replays *replica.DB
	broken        []*tables.DatasetError
	// formerLanes: no dataset is cached, but the namespace has lanes. They are written, or nodes that still have a cache section
	// would serve entries that no worker makes stale any more. Redis may be away meanwhile.
	formerLanes bool
}

// openDatabases opens both and looks at the tables.
func openDatabases(ctx context.Context, c config.Config, log *slog.Logger, set *schemas.Datasets) (_ *databases, err error) {
	d := &databases{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.main, err = connect.Replica(ctx, c, log); err != nil {
		return nil, err
	}
	if d.broken, err = prepareReplica(ctx, c, d.main, set); err != nil {
		return nil, err
	}
	c.Worker.Writers, c.MySQL.MaxConns = replayWriters, 0
	if d.replays, err = connect.Replica(ctx, c, log); err != nil {
		return nil, err
	}
	if _, err = d.replays.Prepare(ctx, set.All()); err != nil {
		return nil, fmt.Errorf("check replica tables: %w", err)
	}
	if !anyCached(set) {
		d.formerLanes, err = d.main.Lanes(c.Namespace).Known(ctx)
	}
	return d, err
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

// prepareReplica makes sure that the database belongs to the configured namespace and group, and looks at its tables.
func prepareReplica(ctx context.Context, c config.Config, db *replica.DB, set *schemas.Datasets) ([]*tables.DatasetError, error) {
	if _, err := db.Binding.Bind(ctx, c.Namespace, c.Kafka.Group); err != nil {
		return nil, fmt.Errorf("check database: %w", err)
	}
	broken, err := db.Prepare(ctx, set.All())
	if err != nil {
		return nil, fmt.Errorf("check replica tables: %w", err)
	}
	return broken, nil
}
