package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
)

// outboxReader reads the state of the source's outbox for the admin API. It connects when it is first asked.
type outboxReader struct {
	cfg config.Config
	log *slog.Logger

	mu   sync.Mutex
	pool *mysql.Pool // guarded by mu
}

func (o *outboxReader) open(ctx context.Context) (*mysql.Pool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pool != nil {
		return o.pool, nil
	}
	mc, err := connect.Source(o.cfg, o.log)
	if err != nil {
		return nil, err
	}
	pool, err := mysql.Open(ctx, mc)
	if err == nil {
		o.pool = pool
	}
	return pool, err
}

func (o *outboxReader) read(ctx context.Context) (api.Outbox, error) {
	pool, err := o.open(ctx)
	if err != nil {
		return api.Outbox{}, err
	}
	st, err := relay.ReadStatus(ctx, pool)
	return api.Outbox{Relay: st.Owner, Rows: st.Backlog, Oldest: st.OldestSeconds, Dead: st.Dead, Problems: st.Problems}, err
}

func (o *outboxReader) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pool != nil {
		_ = o.pool.Close() // nothing is read any more
	}
}
