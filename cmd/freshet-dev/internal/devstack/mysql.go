package devstack

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	vitess "github.com/dolthub/vitess/go/mysql"
	"github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"
)

// Database is the name of the one database of the embedded MySQL.
const Database = "freshet"

// MySQL is the embedded database server. It has one user, root, without a password.
type MySQL struct {
	// Addr is host:port.
	Addr string

	engine   *sqle.Engine
	server   *server.Server
	listener *trackingListener
	locks    *txHandler
	accepted chan struct{} // closed when the accept loop has ended
}

// startMySQL runs the server on a loopback port. ctx bounds the listening only.
func startMySQL(ctx context.Context, cfg Config) (*MySQL, error) {
	// The server logs every connection to a process-wide logger, values of failed statements included. No one else here
	// uses that library.
	logrus.SetOutput(io.Discard)

	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", loopback(cfg.MySQLPort))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	db := memory.NewDatabase(Database)
	db.EnablePrimaryKeyIndexes()
	pro := memory.NewDBProvider(db)
	engine := sqle.NewDefault(pro)
	allowSessionSettings()

	m := &MySQL{Addr: l.Addr().String(), engine: engine, accepted: make(chan struct{})}
	m.listener = &trackingListener{Listener: l, conns: map[*trackedConn]struct{}{}}
	wrap := func(h vitess.Handler) (vitess.Handler, error) { m.locks.Handler = h; return m.locks, nil }
	m.locks = newTxHandler(cfg.LockWait)
	m.server, err = server.NewServerWithHandler(server.Config{
		Protocol: "tcp",
		Address:  m.Addr,
		Listener: m.listener,
		// MariaDB's and MySQL's dialects differ in the upsert's reference to the new row; the engine knows VALUES().
		Version:                      "8.0.31-freshet-dev",
		DisableClientMultiStatements: true,
		Options: []server.Option{func(e *sqle.Engine, sm *server.SessionManager, h vitess.Handler) (*sqle.Engine, *server.SessionManager, vitess.Handler) {
			m.locks.sessions = sm
			return e, sm, h
		}},
	}, engine, gms.NewContext, memory.NewSessionBuilder(pro), nil, wrap)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make server: %w", err), l.Close(), engine.Close())
	}
	go func() {
		defer close(m.accepted)
		// Not Start, which announces itself on the process-wide logger.
		m.server.Listener.Accept()
	}()
	return m, nil
}

// allowSessionSettings lets sessions set what InnoDB has and the engine does not; the values have no effect. The lock wait
// is Config.LockWait.
func allowSessionSettings() {
	gms.SystemVariables.AddSystemVariables([]gms.SystemVariable{
		&gms.MysqlSystemVariable{
			Name: "innodb_lock_wait_timeout", Scope: gms.GetMysqlScope(gms.SystemVariableScope_Both), Dynamic: true,
			Type: types.NewSystemIntType("innodb_lock_wait_timeout", 1, 1<<30, false), Default: int64(50),
		},
		&gms.MysqlSystemVariable{
			Name: "max_statement_time", Scope: gms.GetMysqlScope(gms.SystemVariableScope_Both), Dynamic: true,
			Type: types.NewSystemDoubleType("max_statement_time", 0, 1<<30), Default: float64(0),
		},
	})
}

// DSN is the data source name for go-sql-driver/mysql.
func (m *MySQL) DSN() string { return m.config().FormatDSN() }

// Connector makes connections to the database with the settings that Freshet uses everywhere.
func (m *MySQL) Connector() (driver.Connector, error) {
	c, err := mysql.NewConnector(m.config())
	if err != nil {
		return nil, fmt.Errorf("make connector: %w", err)
	}
	return c, nil
}

// Open returns a pool of connections; the caller closes it.
func (m *MySQL) Open() (*sql.DB, error) {
	c, err := m.Connector()
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

func (m *MySQL) config() *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "tcp", m.Addr, Database
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = 5*time.Second, 30*time.Second, 30*time.Second
	cfg.ClientFoundRows, cfg.RejectReadOnly = true, true
	cfg.Logger = &mysql.NopLogger{} // connections that end with the server are no news; other errors reach the caller
	cfg.Collation = "utf8mb4_bin"
	cfg.Params = map[string]string{
		"time_zone": "'+00:00'",
		"sql_mode":  "'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'",
	}
	return cfg
}

// close ends the server: no new connection, no more waiting for locks, every connection cut and its handler awaited.
func (m *MySQL) close() error {
	m.server.Listener.Close()
	<-m.accepted
	m.locks.shut()
	m.listener.cutAll()
	// The engine reports the end of its background threads as the end of their context.
	if err := m.engine.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close mysql: %w", err)
	}
	return nil
}

// trackingListener knows its open connections, because the server's own Close leaves them running.
type trackingListener struct {
	net.Listener

	mu    sync.Mutex
	conns map[*trackedConn]struct{} // guarded by mu
	wg    sync.WaitGroup            // counts conns
}

// Accept is net.Listener's.
func (l *trackingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &trackedConn{Conn: c, owner: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[t] = struct{}{}
	l.wg.Add(1)
	return t, nil
}

// cutAll makes every connection's next read an end of file, and waits until their handlers have closed them. It comes
// after the accept loop has ended.
func (l *trackingListener) cutAll() {
	l.mu.Lock()
	for c := range l.conns {
		c.cut()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// trackedConn is a server side connection. Its handler closes it as the last thing it does.
type trackedConn struct {
	net.Conn

	owner *trackingListener
	once  sync.Once
	mu    sync.Mutex
	ended bool // guarded by mu
}

// Read is net.Conn's; a cut connection is at its end, which the server takes silently.
func (c *trackedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.isCut() {
		return n, io.EOF
	}
	return n, err
}

// Close is net.Conn's.
func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.owner.mu.Lock()
		defer c.owner.mu.Unlock()
		delete(c.owner.conns, c)
		c.owner.wg.Done()
	})
	return err
}

func (c *trackedConn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	_ = c.SetDeadline(time.Unix(1, 0)) // an error means that it is closed already
}

func (c *trackedConn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// firstWords returns the first two words of a statement in upper case, comments and brackets before it left out.
func firstWords(query string) (first, second string) {
	q := strings.TrimLeft(query, " \t\r\n(")
	for strings.HasPrefix(q, "/*") {
		_, rest, ok := strings.Cut(q, "*/")
		if !ok {
			return "", ""
		}
		q = strings.TrimLeft(rest, " \t\r\n(")
	}
	f := strings.FieldsFunc(q[:min(len(q), 64)], func(r rune) bool { return strings.ContainsRune(" \t\r\n;(", r) })
	if len(f) > 0 {
		first = strings.ToUpper(f[0])
	}
	if len(f) > 1 {
		second = strings.ToUpper(f[1])
	}
	return first, second
}
