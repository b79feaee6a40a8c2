package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// busyPoll and idlePoll are the waits between looks at the outbox, with traffic in the last busyFor and without.
	busyPoll = 20 * time.Millisecond
	idlePoll = 200 * time.Millisecond
	busyFor  = 3 * time.Second
	// passLimit bounds a pass, and so how old its snapshot may be: an old one keeps the server from purging deleted rows.
	passLimit = time.Second
	// finishTimeout is how long an orderly stop waits for what is under way.
	finishTimeout = 5 * time.Second
	// deliveryTimeout: rows wait for Kafka as long as it takes; the order of what waits is kept.
	deliveryTimeout = 365 * 24 * time.Hour
	// maxBuffered bounds the records that wait for Kafka. All batches of a pass fit.
	maxBuffered = 64 << 20
)

// term is the time in which a relay has the lease.
type term struct {
	r     *Relay
	pool  *mysql.Pool
	state state // high is the settling goroutine's own, the rest does not change
	began time.Time
	out   *delivery.Producer
	conn  *mysql.Conn // reads the snapshots; nil until used
	limit int         // rows of the next batch
	scan  scan        // where reading begins

	stragglers []*batch // with records that have no outcome yet; the settling goroutine's own

	obstacles obstacles
}

// serve publishes until the lease is lost or ctx ends. After ctx it finishes what it has read.
func (r *Relay) serve(ctx context.Context, pool *mysql.Pool, st state, began time.Time) error {
	out, err := delivery.New(r.cfg.Kafka, delivery.Config{
		DeliveryTimeout: deliveryTimeout, MaxBufferedBytes: maxBuffered, Compression: r.cfg.Compression, Logger: r.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("make producer: %w", err)
	}
	t := &term{r: r, pool: pool, state: st, began: began, out: out, limit: firstLimit, obstacles: obstacles{log: r.log, all: map[string]obstacle{}}}
	r.begin(ctx, t)
	defer r.end()
	held, lose := context.WithCancelCause(context.WithoutCancel(ctx)) // the life of the lease
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, func() { lose(context.Canceled) }) })
	defer stop()
	g, held := errgroup.WithContext(held)
	working, done := context.WithCancel(held)
	unlink := context.AfterFunc(ctx, done)
	defer unlink()
	g.Go(func() error { return t.renew(working) })
	g.Go(func() error { return t.count(working) })
	g.Go(func() error {
		defer done()
		return t.work(working, held)
	})
	err = g.Wait()
	lose(err)
	done()
	t.closeConn()
	closed, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Millisecond)
	defer cancel()
	_ = out.Close(closed) // what has no outcome yet stays in the outbox
	r.release(ctx, pool, st.fence)
	return err
}

// begin and end note that this relay is the active one.
func (r *Relay) begin(ctx context.Context, t *term) {
	r.counts.terms.Add(1)
	r.log.InfoContext(ctx, "publishing the outbox", "outbox", t.state.outbox, "fence", t.state.fence)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.term, r.waiting = t, nil
}

func (r *Relay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.term.out.Stats()
	r.ended.Durations.Add(last.Durations)
	r.ended.Failed += last.Failed
	r.term = nil
}

// work makes pass after pass. working ends when no more shall be read, held when the lease is lost.
func (t *term) work(working, held context.Context) error {
	last := t.began
	for working.Err() == nil {
		n, more, err := t.pass(working, held)
		if err != nil {
			return err
		}
		if n > 0 {
			last = time.Now()
		}
		wait := idlePoll
		switch {
		case more && n > 0:
			continue
		case time.Since(last) < busyFor:
			wait = busyPoll
		}
		pause(working, wait)
	}
	return nil
}

// pass reads one snapshot of the outbox, publishes its rows and deletes those that Kafka has. It returns their number, and
// whether it ended before the last row.
func (t *term) pass(working, held context.Context) (n int, more bool, err error) {
	read, sent := make(chan *batch, 1), make(chan *batch, 2)
	g, held := errgroup.WithContext(held)
	working, cancel := context.WithCancel(working)
	defer cancel()
	stop := context.AfterFunc(held, cancel) // another stage failed
	defer stop()
	g.Go(func() (err error) {
		defer close(read)
		more, err = t.read(working, read)
		if working.Err() == nil {
			return err
		}
		return nil // the batches before are published
	})
	g.Go(func() error {
		defer close(sent)
		for b := range read {
			t.r.cfg.Failpoint(PointAfterRead)
			if err := t.publish(held, b); err != nil {
				return err
			}
			select {
			case sent <- b:
			case <-held.Done():
				return context.Cause(held)
			}
		}
		return nil
	})
	g.Go(func() error {
		swept, err := t.sweep(held)
		n = swept
		for b := range sent {
			if err != nil {
				return err
			}
			swept, err = t.settle(held, b)
			n += swept
		}
		return err
	})
	err = g.Wait()
	return n, more, err
}

// active returns the datasets whose rows are to be read now.
func (t *term) active() []string {
	var names []string
	for _, d := range t.r.cfg.Datasets.All() {
		if _, err := t.r.cfg.Datasets.Publishable(d.Name); err == nil && !t.obstacles.has(d.Name) {
			names = append(names, d.Name)
		}
	}
	return names
}

// dataset returns the dataset of a row that was read.
func (t *term) dataset(name []byte) (*schemas.Dataset, error) {
	d, ok := t.r.cfg.Datasets.Get(string(name))
	if !ok {
		return nil, errors.New("read a row of a dataset that was not asked for")
	}
	return d, nil
}

func (t *term) closeConn() {
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
}
