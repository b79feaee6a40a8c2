package relay

import (
	"context"
	"errors"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// lead takes the lease if it is free, and returns the state under it. Errors say what the relay waits for.
func (r *Relay) lead(ctx context.Context, pool *mysql.Pool) (state, error) {
	db := pool.DB()
	srv, err := readServer(ctx, db, pool.Dialect())
	if err != nil {
		return state{}, err
	}
	if err := srv.fit(); err != nil {
		return state{}, err
	}
	st, err := readState(ctx, db)
	switch {
	case err != nil:
		return st, err
	case st.owner != "" && st.until > st.now:
		return st, &StandbyError{st.owner}
	case st.lost():
		return st, ErrMarker
	}
	if err := checkTables(ctx, db); err != nil {
		return st, err
	}
	const take = "UPDATE freshet_relay SET `owner` = ?, `fence` = `fence` + 1, `until` = " + mysql.NowMillis + " + ?" +
		" WHERE `one` = 1 AND `fence` = ? AND (`owner` = '' OR `until` <= " + mysql.NowMillis + ")"
	res, err := db.ExecContext(ctx, take, r.cfg.Owner, r.cfg.Lease.Milliseconds(), st.fence)
	if err != nil {
		return st, mysql.Wrap("take the lease", "", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return st, errors.Join(&StandbyError{"of another process"}, err)
	}
	st.fence++
	if st, err = r.renumber(ctx, pool, st, srv); err != nil {
		r.release(ctx, pool, st.fence)
	}
	return st, err
}

// renumber advances the counter if ids that were published may be given again, and notes the server.
func (r *Relay) renumber(ctx context.Context, pool *mysql.Pool, st state, srv server) (state, error) {
	var why string
	switch {
	case st.server == "" && st.high >= r.high.Load():
		_, err := pool.DB().ExecContext(ctx, "UPDATE freshet_relay SET `server` = ? WHERE `one` = 1 AND `fence` = ?", srv.identity, st.fence)
		return st, mysql.Wrap("note the server", "", err)
	case st.server != "" && st.server != srv.identity:
		why = "the database is on another server, which may lack the newest published rows"
	case st.high < r.high.Load():
		why = "the database has forgotten rows that were published"
	case r.below.Swap(false):
		why = "a row has an id below those that were expected when the counter was last advanced"
	default:
		return st, nil
	}
	n, err := advance(ctx, pool, advancing{fence: st.fence, above: r.high.Load(), server: srv.identity})
	if err != nil {
		return st, err
	}
	r.log.WarnContext(ctx, "outbox counter advanced", "reason", why, "previous_server", st.server, "server", srv.identity, "previous_high", st.high, "first_version", n.floor)
	r.counts.advances.Add(1)
	st.numbers, st.high, st.server, st.marker = n, n.floor, srv.identity, true
	return st, nil
}

// renew extends the lease until ctx ends. It returns an error when the lease is lost or may be: when no renewal succeeded for
// as long as it lasts.
func (t *term) renew(ctx context.Context) error {
	every := t.r.cfg.Lease * 3 / 10
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := t.began
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		began := time.Now()
		err := t.extend(ctx, every)
		switch {
		case err == nil:
			last = began
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errFenced), errors.Is(err, ErrIncrement), errors.Is(err, ErrReadOnly), time.Since(last) > t.r.cfg.Lease-every:
			return err
		default:
			t.r.log.WarnContext(ctx, "lease of the outbox not renewed", "error", err)
		}
	}
}

// extend renews the lease once.
func (t *term) extend(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	srv, err := readServer(ctx, t.pool.DB(), t.pool.Dialect())
	if err != nil {
		return err
	}
	if err := srv.fit(); err != nil {
		return err
	}
	if srv.identity != t.state.server && t.state.server != "" {
		return errFenced // the next term advances the counter
	}
	res, err := t.pool.DB().ExecContext(ctx, "UPDATE freshet_relay SET `until` = "+mysql.NowMillis+" + ? WHERE `one` = 1 AND `fence` = ?",
		t.r.cfg.Lease.Milliseconds(), t.state.fence)
	if err != nil {
		return mysql.Wrap("renew the lease", "", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errFenced, err)
	}
	return nil
}

// release gives the lease back, so that another relay need not wait for its end.
func (r *Relay) release(ctx context.Context, pool *mysql.Pool, fence int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_, err := pool.DB().ExecContext(ctx, "UPDATE freshet_relay SET `owner` = '', `until` = 0 WHERE `one` = 1 AND `fence` = ?", fence)
	if err != nil {
		r.log.DebugContext(ctx, "lease of the outbox not released", "error", mysql.Wrap("release the lease", "", err))
	}
}

const releaseTimeout = 2 * time.Second
