package replica

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

// Defaults of Config.
const (
	DefaultSessionTimeout = 10 * time.Second
	DefaultHistoryEvery   = 10 * time.Second
)

// Config of a replica database. MySQL says where it is; everything else may be zero.
type Config struct {
	// MySQL are its connections. Writers is the number of batches that are written at the same time. Idle 0 means half of
	// SessionTimeout.
	MySQL mysql.Config
	// SessionTimeout is the consumer group's: Take believes an owner of a newer generation alive for that long; 0 means
	// DefaultSessionTimeout.
	SessionTimeout time.Duration
	// HistoryEvery is the time between two notes of a source's position; 0 means DefaultHistoryEvery.
	HistoryEvery time.Duration
	// BeforeCommit, if not nil, is called inside each batch's transaction when everything is written; fault tests stop the
	// process there. It is nil in production.
	BeforeCommit func()
}

func (c Config) withDefaults() (Config, error) {
	if c.SessionTimeout < 0 || c.HistoryEvery < 0 {
		return c, fmt.Errorf("replica: SessionTimeout is %v and HistoryEvery %v; give positive values, or 0 for the defaults", c.SessionTimeout, c.HistoryEvery)
	}
	c.SessionTimeout = cmp.Or(c.SessionTimeout, DefaultSessionTimeout)
	c.HistoryEvery = cmp.Or(c.HistoryEvery, DefaultHistoryEvery)
	c.MySQL.Idle = cmp.Or(c.MySQL.Idle, c.SessionTimeout/2)
	if c.MySQL.Logger == nil {
		c.MySQL.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
