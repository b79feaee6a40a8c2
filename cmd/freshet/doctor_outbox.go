package main

import (
	"context"
	"errors"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
)

// outboxAge is how long a row waits while relays work.
const outboxAge = time.Minute

// examineOutbox looks at the outbox of the source database, if one is configured.
func (d *doctor) examineOutbox(ctx context.Context) {
	if d.cfg.Relay.DSN == "" {
		return
	}
	mc, err := connect.Source(d.cfg, d.log)
	if err != nil {
		d.bad("outbox-settings", "", "correct the relay settings", "%v", err)
		return
	}
	pool, err := mysql.Open(ctx, mc)
	if err != nil {
		d.bad("outbox-unreachable", "", "start the server, or correct relay.dsn and the user's grants", "the source database cannot be opened: %v", err)
		return
	}
	defer pool.Close()
	st, err := relay.ReadStatus(ctx, pool)
	switch {
	case errors.Is(err, relay.ErrTables):
		d.bad("outbox-tables", "", "run the statements of freshet outbox ddl in the source database", "%v", err)
		return
	case err != nil:
		d.bad("outbox-grants", "", "grant what freshet outbox ddl prints", "the outbox cannot be read: %v", err)
		return
	}
	for _, problem := range st.Problems {
		d.bad("outbox-stopped", "", "follow the text", "%s", problem)
	}
	if err := relay.CheckGrants(ctx, pool); err != nil && len(st.Problems) == 0 {
		d.bad("outbox-grants", "", "grant what freshet outbox ddl prints", "the outbox cannot be written: %v", err)
	}
	d.examineBacklog(st)
}

// examineBacklog looks for rows that no relay publishes.
func (d *doctor) examineBacklog(st relay.Status) {
	if st.Owner == "" {
		d.bad("no-relay", "", "start freshet relay", "no relay is active, so the outbox is not published")
	}
	for _, b := range st.Datasets {
		age := time.Duration(b.OldestSeconds * float64(time.Second)).Round(time.Second)
		if _, err := d.set.Publishable(b.Dataset); err != nil {
			d.bad("outbox-unknown-dataset", b.Dataset, "declare the dataset for the relays, or delete the rows", "%d rows of the outbox are not published: %v", b.Rows, err)
		} else if age > outboxAge {
			d.bad("outbox-behind", b.Dataset, "look at /readyz of the relay, and at topic and brokers", "%d rows wait in the outbox, the oldest for %s", b.Rows, age)
		}
	}
	if st.Dead > 0 {
		d.note("outbox-dead-rows", "", "look at them with freshet outbox status; correct the records, then delete the rows", "%d rows can never be published", st.Dead)
	}
}
