package bench_test

import (
	"database/sql"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/bench"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/testenv"
)

// Everything is drained, both kinds of turn change records, and the tables are removed; a database that has an outbox is left alone.
func TestRelayIsMeasured(t *testing.T) {
	my := testenv.MySQL(t)
	dsn := my.NewDatabase(t)
	l, err := config.Load(config.Source{Environ: []string{
		"FRESHET_KAFKA__BROKERS=" + strings.Join(testenv.Kafka(t).Brokers, ","), "FRESHET_RELAY__DSN=" + dsn,
	}})
	if err != nil {
		t.Fatal(err)
	}
	size := bench.RelayConfig{Rows: 3000, Size: 290, Partitions: 2, Writers: 4, Duration: 300 * time.Millisecond, Turns: 1}
	res, err := bench.Relay(t.Context(), l.Config, size, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if res.Drain <= 0 || res.Alone.Min <= 0 || res.Beside.Min <= 0 {
		t.Errorf("measured nothing: %+v", res)
	}
	res.Print(io.Discard)
	db := my.Open(t, dsn)
	var n int
	var names sql.NullString
	err = db.QueryRowContext(t.Context(), "SELECT COUNT(*), GROUP_CONCAT(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()").Scan(&n, &names)
	if err != nil || n != 0 {
		t.Errorf("tables are left: %s, %v", names.String, err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE freshet_outbox (id INT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := bench.Relay(t.Context(), l.Config, size, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a database with an outbox is used")
	}
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM freshet_outbox").Scan(&n); err != nil {
		t.Errorf("its outbox is gone: %v", err)
	}
}
