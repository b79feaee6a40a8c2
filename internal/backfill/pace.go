package backfill

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// Bounds of a chunk. Its rows stay locked for as long as its transaction takes, so its size follows the time.
const (
	minChunk   = 4
	maxChunk   = 2000
	chunkTime  = 10 * time.Millisecond
	firstChunk = 200
	firstBytes = 4 << 20
	// checkEvery is how often the load is looked at, and how long a pause waits until the next look.
	checkEvery = 500 * time.Millisecond
	// longestRest bounds the rest after a chunk that took long because it waited for a lock.
	longestRest = time.Second
)

// pace chooses the size of the next chunk, and how long to rest before it.
type pace struct {
	rows    int
	most    int // maxChunk, or what the rate allows in a second
	rest    time.Duration
	checked time.Time
}

// newPace begins with a chunk that is small where rows are large: its transaction would be large, too. A rate of 0 is no limit.
func newPace(rowBytes int64, perSecond float64) pace {
	most := maxChunk
	if perSecond > 0 {
		most = int(min(max(perSecond, 1), maxChunk))
	}
	return pace{rows: min(int(min(max(firstBytes/max(rowBytes, 1), 1), firstChunk)), most), most: most}
}

// took adapts the size to the time of a chunk of n rows. A chunk grows slowly and shrinks at once.
func (p *pace) took(n int, d time.Duration) {
	if n == 0 || d <= 0 {
		return
	}
	p.rest = d
	fits := int(float64(n) * float64(chunkTime) / float64(d))
	p.rows = min(max(minChunk, min(fits, p.rows*3/2)), p.most)
}

// rest leaves the server to others for a while: a multiple of what the last chunk took.
func (l *Loader) rest(ctx context.Context) {
	d := min(time.Duration(l.cfg.Rest*float64(l.pace.rest)), longestRest)
	l.pace.rest = 0
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// wait blocks while the rate is used up, the outbox is long or the server is busy.
func (l *Loader) wait(ctx context.Context) error {
	l.rest(ctx)
	if err := l.limiter.WaitN(ctx, l.pace.rows); err != nil {
		return fmt.Errorf("backfill: %w", context.Cause(ctx))
	}
	if time.Since(l.pace.checked) < checkEvery {
		return nil
	}
	for {
		var why string
		err := l.again(ctx, "look at the load", func(ctx context.Context) (err error) {
			why, err = l.load(ctx)
			return err
		})
		if err != nil {
			return err
		}
		l.pace.checked = time.Now()
		if why != l.p.Paused {
			l.p.Paused = why
			if why != "" {
				l.log.InfoContext(ctx, "backfill pauses", "reason", why)
			}
		}
		l.report(false)
		if why == "" {
			return nil
		}
		timer := time.NewTimer(checkEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("backfill: %w", context.Cause(ctx))
		case <-timer.C:
		}
	}
}

// load returns why the Loader has to wait; "" if it does not. A pause because of the backlog ends at half of the limit, so
// that it does not end and begin with each row that the relay takes.
func (l *Loader) load(ctx context.Context) (string, error) {
	limit := l.cfg.MaxBacklog
	if l.p.Paused != "" {
		limit /= 2
	}
	var backlog, running int64
	var name string
	db := l.cfg.Source.DB()
	if _, err := mysql.One(ctx, db, "count the outbox", "SELECT COUNT(*) FROM (SELECT 1 FROM freshet_outbox LIMIT ?) AS few", []any{limit + 1}, &backlog); err != nil {
		return "", err //nolint:wrapcheck // again states what was done
	}
	if backlog > int64(limit) {
		return fmt.Sprintf("the outbox has more than %d rows; is a relay running?", limit), nil
	}
	found, err := mysql.One(ctx, db, "read load", "SHOW GLOBAL STATUS LIKE 'Threads_running'", nil, &name, &running)
	if err != nil {
		return "", err //nolint:wrapcheck // again states what was done
	}
	if found && running > int64(l.cfg.MaxRunning) {
		return fmt.Sprintf("the server runs %d threads, more than %d", running, l.cfg.MaxRunning), nil
	}
	return "", nil
}
