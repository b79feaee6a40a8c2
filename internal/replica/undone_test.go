package replica_test

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync/atomic"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
)

// undoing makes connections whose transaction ends without an error before the first upsert into items, once: so does a
// proxy that replaces a broken connection to the server by itself.
type undoing struct {
	driver.Connector
	armed *atomic.Bool
}

func (u undoing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := u.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return undoingConn{conn.(mysqlConn), u.armed}, nil
}

// mysqlConn is what the driver's connection implements and the replica needs.
type mysqlConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
}

type undoingConn struct {
	mysqlConn

	armed *atomic.Bool
}

func (c undoingConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	if strings.HasPrefix(text, "INSERT INTO `items`") && c.armed.CompareAndSwap(true, false) {
		if _, err := c.ExecContext(ctx, "ROLLBACK", nil); err != nil {
			return nil, err
		}
	}
	return c.mysqlConn.PrepareContext(ctx, text)
}

// TestUndoneTransactionIsNoticed: a transaction that ended unseen has not moved the position, and its rows were committed one
// by one. The batch must not count as applied.
func TestUndoneTransactionIsNoticed(t *testing.T) {
	cfg, err := gomysql.ParseDSN(testenv.MySQL(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientFoundRows = true
	connector, err := gomysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var armed atomic.Bool
	b := newBed(t, replica.Config{MySQL: mysql.Config{Connector: undoing{connector, &armed}, Writers: 1}})
	armed.Store(true)
	res, err := b.Apply(t.Context(), b.batch(b.item(t, 2, 2, "b"), b.item(t, 3, 2, "b")))
	if err != nil {
		t.Fatal(err)
	}
	if armed.Load() || res.Undone != 1 {
		t.Errorf("%d transactions were noticed, want 1", res.Undone)
	}
	b.wantRow(t, 2, "2:b")
	b.wantRow(t, 3, "2:b")
	if next := one[int64](t, b.db, "SELECT next_offset FROM freshet_position WHERE source = ?", src); next != 2 {
		t.Errorf("next_offset is %d, want 2", next)
	}
}
