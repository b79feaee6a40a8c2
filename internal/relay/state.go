package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/mysql"
)

// Errors that keep a relay from publishing until they are fixed; each says how.
var (
	// ErrTables is wrapped when the outbox's tables are missing or of another form.
	ErrTables = errors.New("the tables of the outbox are not what this release needs; compare them with freshet outbox ddl")
	// ErrMarker is returned when the row with the greatest published id is gone: after a TRUNCATE or a restore, ids may
	// begin again below versions that were published.
	ErrMarker = errors.New("the last published row is no longer in freshet_outbox (TRUNCATE, DELETE or a restore?), so new ids may be below published versions;" +
		" run freshet outbox advance --apply, then freshet backfill for the datasets whose rows were lost")
	// ErrIncrement is returned while auto_increment_increment is not 1: ids would not follow the order of commits.
	ErrIncrement = errors.New("auto_increment_increment of the server is not 1, so ids do not follow the order of commits; set it to 1, with one server that is written to")
	// ErrReadOnly is returned while the server is read-only.
	ErrReadOnly = errors.New("the server is read-only; the relay waits for the primary")
	// errFenced ends a term: another relay, or an operator, took the lease.
	errFenced = errors.New("another relay has the lease")
)

// noOutboxError is an ErrTables for a database without any of the tables, where there is nothing to compare.
type noOutboxError struct{}

// Error states what is missing and the fix.
func (noOutboxError) Error() string {
	return "the database has no outbox, or the user may not read it; run the statements of freshet outbox ddl there, its grants too, or correct relay.dsn"
}

// Is lets callers treat it as an ErrTables.
func (noOutboxError) Is(target error) bool { return target == ErrTables }

// StandbyError is what keeps a relay from publishing while another one does.
type StandbyError struct{ Owner string }

// Error names the active relay.
func (e *StandbyError) Error() string { return "standing by: relay " + e.Owner + " is active" }

// state is the row of freshet_relay.
type state struct {
	outbox, owner, server string
	fence, until, high    int64
	numbers               numbering
	marker                bool  // the row of high is in the outbox, as the relay left it
	now                   int64 // the database's clock, Unix ms
}

// lost reports whether the greatest published row is missing.
func (s *state) lost() bool { return s.high > 0 && !s.marker }

// numbering makes versions of ids.
type numbering struct {
	// floor is the first id that is a version itself. Ids from low to below it were taken before the counter was advanced;
	// their versions are shift higher, and below floor.
	low, floor, shift int64
}

func (n numbering) version(id int64) int64 {
	if id >= n.floor {
		return id
	}
	return id + n.shift
}

const selectState = "SELECT r.`outbox`, r.`owner`, r.`server`, r.`fence`, r.`until`, r.`high`, r.`low`, r.`floor`, r.`shift`," +
	" EXISTS (SELECT 1 FROM freshet_outbox o WHERE o.id = r.`high` AND o.dataset = ''), " + mysql.NowMillis +
	" FROM freshet_relay r WHERE r.`one` = 1"

// readState reads the state of the outbox. Its queries are one statement, so the answer is of one moment.
func readState(ctx context.Context, q mysql.Querier) (state, error) {
	var s state
	found, err := mysql.One(ctx, q, "read state of the outbox", selectState, nil, &s.outbox, &s.owner, &s.server, &s.fence, &s.until, &s.high,
		&s.numbers.low, &s.numbers.floor, &s.numbers.shift, &s.marker, &s.now)
	if n, _ := mysql.Errno(err); n == 1146 || n == 1054 {
		return s, fmt.Errorf("%w (%w)", ErrTables, err)
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: freshet_relay has no row", ErrTables)
	}
	return s, err
}

// server is what a relay must know of a server before it publishes from it.
type server struct {
	identity  string
	readOnly  bool
	increment int64
}

// identity is the expression that tells a server from others. That of MySQL is its UUID. MariaDB has none that differs between a
// primary and its replicas in every release; the server_id must differ between those, and the host otherwise.
func identity(d mysql.Dialect) string {
	if d == mysql.MariaDB {
		return "CONCAT_WS(':', @@hostname, @@port, @@server_id)"
	}
	return "@@server_uuid"
}

// readServer asks the server.
func readServer(ctx context.Context, q mysql.Querier, d mysql.Dialect) (server, error) {
	var s server
	var readOnly string
	_, err := mysql.One(ctx, q, "ask for the server's settings", "SELECT "+identity(d)+", @@GLOBAL.read_only, @@GLOBAL.auto_increment_increment", nil,
		&s.identity, &readOnly, &s.increment)
	s.readOnly = readOnly != "0" && readOnly != "OFF"
	return s, err
}

// fit returns why a relay must not publish from the server now.
func (s server) fit() error {
	switch {
	case s.readOnly:
		return ErrReadOnly
	case s.increment != 1:
		return ErrIncrement
	}
	return nil
}

// checkTables compares the outbox's tables with what the relay's statements need.
func checkTables(ctx context.Context, q mysql.Querier) error {
	need := map[string][]string{
		"freshet_outbox":      {"id", "dataset", "record_key", "op", "data", "version", "traceparent", "tracestate", "created_at"},
		"freshet_outbox_dead": {"id", "dataset", "record_key", "op", "data", "version", "traceparent", "tracestate", "created_at", "refused_at", "reason"},
		"freshet_relay":       {"one", "outbox", "owner", "fence", "until", "high", "low", "floor", "shift", "server"},
	}
	have := map[string]string{} // table.column: extra
	err := mysql.Each(ctx, q, "look at the outbox's tables", "SELECT LOWER(c.TABLE_NAME), LOWER(c.COLUMN_NAME), LOWER(c.EXTRA), t.ENGINE"+
		" FROM information_schema.COLUMNS c JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME)"+
		" WHERE c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME IN ('freshet_outbox', 'freshet_outbox_dead', 'freshet_relay')",
		nil, func(scan func(...any) error) error {
			var table, column, extra, engine string
			if err := scan(&table, &column, &extra, &engine); err != nil {
				return err
			}
			if engine != "InnoDB" {
				return fmt.Errorf("%w: table %s has the engine %s", ErrTables, table, engine)
			}
			have[table+"."+column] = extra
			return nil
		})
	if err != nil {
		return err
	}
	if len(have) == 0 {
		return noOutboxError{}
	}
	for table, columns := range need {
		for _, c := range columns {
			if _, ok := have[table+"."+c]; !ok {
				return fmt.Errorf("%w: column %s of table %s is missing", ErrTables, c, table)
			}
		}
	}
	if have["freshet_outbox.id"] != "auto_increment" {
		return fmt.Errorf("%w: freshet_outbox.id is not AUTO_INCREMENT", ErrTables)
	}
	return nil
}
