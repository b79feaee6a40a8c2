package worker_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
)

// pair is a primary and its standby, two databases of one server, behind one address.
type pair struct {
	b       *bed
	proxy   *testenv.Proxy
	standby string // DSN
	leader  atomic.Pointer[mysql.Config]
}

func newPair(b *bed) *pair {
	p := &pair{b: b, proxy: testenv.NewProxy(b.t, b.mysql.Addr), standby: b.mysql.NewDatabase(b.t)}
	p.lead(b.dsn)
	return p
}

func (p *pair) Driver() driver.Driver { return gomysql.MySQLDriver{} }

func (p *pair) Connect(ctx context.Context) (driver.Conn, error) {
	cfg, err := p.leader.Load().DriverConfig()
	if err != nil {
		return nil, err
	}
	c, err := gomysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return c.Connect(ctx)
}

func database(b *bed, dsn string) string {
	b.t.Helper()
	c, err := gomysql.ParseDSN(dsn)
	if err != nil {
		b.t.Fatal(err)
	}
	return c.DBName
}

func (p *pair) lead(dsn string) {
	p.leader.Store(&mysql.Config{DSN: p.b.mysql.TCP(p.proxy.Addr, database(p.b, dsn))})
}

// replicate copies the primary to the standby as it is now.
func (p *pair) replicate() {
	p.b.t.Helper()
	to := database(p.b, p.standby)
	rows, err := p.b.db.QueryContext(p.b.t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
	if err != nil {
		p.b.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var copies []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			p.b.t.Fatal(err)
		}
		copies = append(copies, fmt.Sprintf("CREATE TABLE %s.%s LIKE %[2]s", to, table), fmt.Sprintf("INSERT INTO %s.%s SELECT * FROM %[2]s", to, table))
	}
	if err := rows.Err(); err != nil || len(copies) == 0 {
		p.b.t.Fatal(err, copies)
	}
	for _, stmt := range copies {
		p.b.exec(stmt)
	}
}

// failover makes the standby the primary, as a proxy in front of both does.
func (p *pair) failover() {
	p.b.t.Helper()
	p.lead(p.standby)
	p.b.db = p.b.mysql.Open(p.b.t, p.standby)
	p.proxy.Cut()
}

// A standby that lagged becomes the primary while the worker runs: what it lacks is read from Kafka again, with or without
// further records, and what it made stale is emitted again.
func TestFailoverToAStandbyThatLagged(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"busy": 10, "quiet": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, servers{})
			p := newPair(b)
			w := b.start(func(_ *worker.Config, rc *replica.Config) { rc.MySQL.DSN, rc.MySQL.Connector = "", p })
			b.putMany("items", 10)
			b.put("others", "k1", 1) // both partitions have a position
			b.awaitDone("items")
			b.awaitDone("others")
			p.replicate()
			for i := 10; i < 19; i++ {
				b.put("items", fmt.Sprint("k", i), 1)
			}
			b.put("items", "k5", 2)
			b.awaitDone("items")
			gone := b.hold("items", "k5", 1) // as a node loads it from the standby
			p.failover()
			for i := 20; i < 20+more; i++ {
				b.put("items", fmt.Sprint("k", i), 1)
			}
			b.awaitRow("items", "k5", 2)
			b.awaitDone("items")
			if n := b.count("items"); n != 19+more {
				t.Errorf("%d rows, want %d", n, 19+more)
			}
			testenv.Eventually(t, patience, func(context.Context) error {
				if !gone() {
					return errors.New("the entry that was loaded from the standby stays")
				}
				return nil
			})
			awaitStats(t, w, "counted", func(s worker.Stats) bool { return s.DatabaseWentBack > 0 })
			awaitReady(t, w)
		})
	}
}

// A worker that had taken its partitions after the standby's last update notices it by the fence, before the first record.
func TestFailoverToAStandbyFromBeforeTheTake(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	p := newPair(b)
	behind := func(_ *worker.Config, rc *replica.Config) { rc.MySQL.DSN, rc.MySQL.Connector = "", p }
	w := b.start(behind)
	b.putMany("items", 3)
	b.awaitDone("items")
	w.stop()
	p.replicate()
	w = b.start(behind)
	awaitReady(t, w)
	p.failover()
	awaitStats(t, w, "counted", func(s worker.Stats) bool { return s.DatabaseWentBack > 0 })
	b.put("items", "k1", 2)
	b.awaitRow("items", "k1", 2)
	awaitReady(t, w)
}

// splitting makes connections that send plain reads of positions to a standby, as a proxy that splits reads does.
type splitting struct {
	driver.Connector
	standby *gomysql.Config
	// reads counts the reads of positions that the standby answered.
	reads *atomic.Int64
}

func (s splitting) Connect(ctx context.Context) (driver.Conn, error) {
	primary, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c, err := gomysql.NewConnector(s.standby)
	if err != nil {
		return nil, err
	}
	standby, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &splitConn{mysqlConn: primary.(mysqlConn), standby: standby.(mysqlConn), reads: s.reads}, nil
}

// mysqlConn is what the driver's connection implements and the replica needs.
type mysqlConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type splitConn struct {
	mysqlConn

	standby mysqlConn
	open    bool // a transaction
	reads   *atomic.Int64
}

func (c *splitConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	c.open = text == "START TRANSACTION" || c.open && text != "COMMIT" && text != "ROLLBACK"
	return c.mysqlConn.ExecContext(ctx, text, args)
}

func (c *splitConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	if c.open || !strings.HasPrefix(text, "SELECT source, fence, next_offset FROM freshet_position") || strings.HasSuffix(text, "FOR UPDATE") {
		return c.mysqlConn.PrepareContext(ctx, text)
	}
	c.reads.Add(1)
	return c.standby.PrepareContext(ctx, text)
}

// QueryContext leaves statements with arguments to PrepareContext, as the driver does.
func (c *splitConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) > 0 {
		return nil, driver.ErrSkip
	}
	return c.mysqlConn.QueryContext(ctx, text, args)
}

func (c *splitConn) Close() error { return errors.Join(c.mysqlConn.Close(), c.standby.Close()) }

// A proxy that sends reads to a standby that lags is not a database that went back.
func TestReadsOfAStandbyAreNoProof(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	p := newPair(b)
	standby, err := mysql.Config{DSN: p.standby}.DriverConfig()
	if err != nil {
		t.Fatal(err)
	}
	b.start(nil).stop() // makes the positions
	p.replicate()
	var reads atomic.Int64
	w := b.start(func(_ *worker.Config, rc *replica.Config) {
		rc.MySQL.DSN, rc.MySQL.Connector = "", splitting{Connector: p, standby: standby, reads: &reads}
	})
	b.putMany("items", 10)
	b.awaitDone("items")
	before := reads.Load()
	testenv.Eventually(t, patience, func(context.Context) error {
		if n := reads.Load() - before; n < 2 {
			return fmt.Errorf("the standby answered %d reads of positions", n)
		}
		return nil
	})
	if n := w.Stats().DatabaseWentBack; n != 0 {
		t.Errorf("the database is said to have gone back %d times", n)
	}
	awaitReady(t, w)
}
