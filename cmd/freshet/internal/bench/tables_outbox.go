package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/producer/outbox"
)

// makeOutbox makes an outbox and a table of records with keys of a type, in a database that must have no outbox. made: dropOutbox
// is to remove them.
func makeOutbox(ctx context.Context, db *sql.DB, keyType string) (made bool, err error) {
	var n int
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'freshet\\_outbox%'").Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look for an outbox: %w", err)
	}
	if n > 0 {
		return false, config.UsageError{Err: errors.New("the database of relay.dsn has an outbox already; name one that has none, for the benchmark drops it")}
	}
	for _, stmt := range append(outbox.DDL(), "CREATE TABLE freshet_outbox_bench (id "+keyType+" NOT NULL PRIMARY KEY, n BIGINT NOT NULL) ENGINE = InnoDB") {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return true, fmt.Errorf("make the outbox: %w", err)
		}
	}
	return true, nil
}

// dropOutbox removes what makeOutbox made.
func dropOutbox(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS freshet_outbox, freshet_outbox_dead, freshet_outbox_bench, freshet_relay, freshet_backfill")
	if err != nil {
		return fmt.Errorf("drop the outbox: %w", err)
	}
	return nil
}
