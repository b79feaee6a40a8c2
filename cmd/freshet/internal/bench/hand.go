package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// byHand is the same path without Freshet: produce, one upsert, one PUBLISH, each waited for.
func (b *rig) byHand(ctx context.Context, f LatencyConfig, watch *cpuWatch, res *LatencyResult) error {
	pub, err := b.producer()
	if err != nil {
		return err
	}
	defer pub.Close()
	stmt, err := b.db.SQL().PrepareContext(ctx, tables.UpsertSQL(b.ds, b.db.Dialect(), 1))
	if err != nil {
		return fmt.Errorf("prepare upsert: %w", err)
	}
	defer stmt.Close()
	h := &hand{rig: b, pub: pub, stmt: stmt, channel: b.ds.Name, waiting: map[string]*heard{}}
	defer h.close()
	if err := h.subscribe(ctx, f.Nodes); err != nil {
		return err
	}
	evs := newWorkload("insert", b.ds.Name, f.Records, f.Records, latencySize)
	limit := rate.NewLimiter(rate.Limit(f.Rate), 1)
	g, gctx := errgroup.WithContext(ctx)
	all, warming := f.events()
	for i := range all {
		if err := limit.Wait(gctx); err != nil {
			break
		}
		if i == warming {
			watch.start()
		}
		ev := evs.next(i % f.Records)
		ev.Version, ev.ID = 1_000_000+int64(i), fmt.Sprintf("%08d-hand", i)
		g.Go(func() error { return h.one(gctx, ev, f.Nodes, i >= warming) })
	}
	err = g.Wait()
	res.HandCPU = watch.perEvent(res.Events)
	res.ByHand, res.HandRow = h.seen.quantiles(), h.rows.quantiles()
	return err
}

// hand is the path by hand: its subscribers and what is under way.
type hand struct {
	rig     *rig
	pub     *producer.Producer
	stmt    *sql.Stmt
	channel string
	clients []redis.UniversalClient
	subs    sync.WaitGroup
	stop    context.CancelFunc

	mu         sync.Mutex
	waiting    map[string]*heard
	seen, rows timings
}

// heard counts the subscribers that an event has yet to reach.
type heard struct {
	left int
	all  chan struct{}
}

func (h *hand) subscribe(ctx context.Context, count int) error {
	ctx, h.stop = context.WithCancel(ctx)
	for range count {
		rdb, err := connect.Redis(h.rig.cfg)
		if err != nil {
			return err
		}
		h.clients = append(h.clients, rdb)
		sub := rdb.Subscribe(ctx, h.channel)
		if _, err := sub.Receive(ctx); err != nil {
			return errors.Join(err, sub.Close())
		}
		h.subs.Go(func() {
			defer sub.Close()
			for {
				m, err := sub.ReceiveMessage(ctx)
				if err != nil {
					return
				}
				h.mu.Lock()
				if w := h.waiting[m.Payload]; w != nil {
					if w.left--; w.left == 0 {
						close(w.all)
						delete(h.waiting, m.Payload)
					}
				}
				h.mu.Unlock()
			}
		})
	}
	return nil
}

func (h *hand) one(ctx context.Context, ev schemas.Event, subscribers int, timed bool) error {
	began := time.Now()
	row, err := h.rig.ds.Check(&ev)
	if err != nil {
		return err
	}
	if _, err := h.pub.Publish(ctx, ev); err != nil {
		return err
	}
	values := append(slices.Clone(row.Values), int64(0), began.UnixMilli(), ev.Version)
	if _, err := h.stmt.ExecContext(ctx, values...); err != nil {
		return fmt.Errorf("upsert by hand: %w", err)
	}
	if timed {
		h.rows.add(time.Since(began))
	}
	w := &heard{left: subscribers, all: make(chan struct{})}
	h.mu.Lock()
	h.waiting[ev.ID] = w
	h.mu.Unlock()
	if err := h.rig.rdb.Publish(ctx, h.channel, ev.ID).Err(); err != nil {
		return fmt.Errorf("publish by hand: %w", err)
	}
	select {
	case <-w.all:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if timed {
		h.seen.add(time.Since(began))
	}
	return nil
}

func (h *hand) close() {
	if h.stop != nil {
		h.stop()
	}
	for _, c := range h.clients {
		_ = c.Close()
	}
	h.subs.Wait()
}
