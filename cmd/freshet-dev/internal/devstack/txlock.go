package devstack

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/server"
	gms "github.com/dolthub/go-mysql-server/sql"
	vitess "github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
)

// txHandler stands between the wire and the engine and makes transactions what a client may expect of them.
//
// The engine has neither row locks nor isolation: a transaction works on copies of the tables that it touched, and its
// commit puts all of them back whole, also those that it only read, also after an autocommitted SELECT. Whatever others
// committed meanwhile is lost. So:
//
//   - One lock for the whole server. A transaction holds it from BEGIN to COMMIT or ROLLBACK, an autocommitted write or
//     locking read for its one statement. It lives here and not in a client, because only the server knows when a
//     statement of a client that went away has really ended.
//   - A plain read takes no lock: it sees what was committed when it began. Its copies are thrown away, never put back.
//   - After each statement outside of a transaction the session forgets its copies; the engine keeps those of a failed
//     statement and would put them back much later.
//
// The lock is released when the connection ends, for whatever reason; a wait for it ends after the lock wait with MySQL's
// error 1205.
type txHandler struct {
	vitess.Handler // the engine's

	sessions *server.SessionManager
	wait     time.Duration
	lock     chan struct{} // holds one token while someone has the lock
	done     chan struct{} // closed when the server shuts down

	mu   sync.Mutex
	held map[uint32]bool // connections that hold the lock: one at most; guarded by mu
}

func newTxHandler(wait time.Duration) *txHandler {
	return &txHandler{wait: wait, lock: make(chan struct{}, 1), done: make(chan struct{}), held: map[uint32]bool{}}
}

// errReadOnlyTx is MySQL's ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION.
const errReadOnlyTx = 1792

// kind reports what a statement needs.
type kind uint8

const (
	plainRead kind = iota + 1
	write          // or anything else that is not known to be harmless
	beginRead      // START TRANSACTION READ ONLY
	begin
	commit
	rollback
	noAutocommit
)

func kindOf(query string) kind {
	first, second := firstWords(query)
	switch first {
	case "SELECT", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "USE", "":
		upper := strings.ToUpper(query)
		if strings.Contains(upper, "FOR UPDATE") || strings.Contains(upper, "LOCK IN SHARE MODE") || strings.Contains(upper, "FOR SHARE") {
			return write
		}
		return plainRead
	case "SET":
		squeezed := strings.ToUpper(strings.ReplaceAll(query, " ", ""))
		if strings.Contains(squeezed, "AUTOCOMMIT=0") || strings.Contains(squeezed, "AUTOCOMMIT=OFF") {
			return noAutocommit
		}
		return plainRead
	case "BEGIN":
		return begin
	case "START":
		if second == "TRANSACTION" && strings.Contains(strings.ToUpper(query), "READ ONLY") {
			return beginRead
		}
		return begin
	case "COMMIT":
		return commit
	case "ROLLBACK":
		return rollback
	}
	return write
}

// ComQuery is vitess' Handler.
func (h *txHandler) ComQuery(ctx context.Context, c *vitess.Conn, query string, cb vitess.ResultSpoolFn) error {
	return h.around(ctx, c, query, func(query string) error { return h.Handler.ComQuery(ctx, c, query, cb) })
}

// ComStmtExecute is vitess' Handler.
func (h *txHandler) ComStmtExecute(ctx context.Context, c *vitess.Conn, p *vitess.PrepareData, cb func(*sqltypes.Result) error) error {
	return h.around(ctx, c, p.PrepareStmt, func(query string) error {
		own := *p
		own.PrepareStmt = query
		return h.Handler.ComStmtExecute(ctx, c, &own, cb)
	})
}

// ComPrepare is vitess' Handler. The engine reads tables to plan the statement; those copies go as well.
func (h *txHandler) ComPrepare(ctx context.Context, c *vitess.Conn, query string, p *vitess.PrepareData) ([]*querypb.Field, error) {
	var fields []*querypb.Field
	err := h.around(ctx, c, "SELECT", func(string) (err error) {
		fields, err = h.Handler.ComPrepare(ctx, c, query, p)
		return err
	})
	return fields, err
}

// ComResetConnection is vitess' Handler: the session, and with it the transaction, begins again.
func (h *txHandler) ComResetConnection(c *vitess.Conn) error {
	defer h.release(c.ConnectionID)
	return h.Handler.ComResetConnection(c)
}

// ConnectionClosed is vitess' Handler. It comes last on each connection, also when its goroutine panics, and after its
// last statement has ended.
func (h *txHandler) ConnectionClosed(c *vitess.Conn) {
	defer h.release(c.ConnectionID)
	h.Handler.ConnectionClosed(c)
}

// around runs one statement under the rules of txHandler.
func (h *txHandler) around(ctx context.Context, c *vitess.Conn, query string, run func(string) error) (err error) {
	sess, err := h.session(ctx, c)
	if err != nil {
		return err
	}
	k := kindOf(query)
	inTx := sess.GetIgnoreAutoCommit()
	switch {
	case k == noAutocommit:
		return vitess.NewSQLError(vitess.ERNotSupportedYet, "42000", "the dev server knows autocommit only: use BEGIN and COMMIT")
	case k == beginRead:
		query = "START TRANSACTION READ ONLY" // the engine has no word for WITH CONSISTENT SNAPSHOT
	case inTx && !h.holds(c.ConnectionID) && k == commit:
		query = "ROLLBACK" // a read-only transaction has nothing to put back
	case inTx && !h.holds(c.ConnectionID) && (k == write || k == begin):
		return vitess.NewSQLError(errReadOnlyTx, "25006", "cannot execute statement in a READ ONLY transaction")
	case !inTx && (k == write || k == begin):
		if err := h.acquire(c.ConnectionID); err != nil {
			return err
		}
	}
	autocommitRead := !inTx && k != write && k != begin && k != beginRead
	if autocommitRead {
		sess.SetIgnoreAutoCommit(true) // keeps the engine from putting back what this statement reads
	}
	settled := false
	defer func() {
		if !settled { // a panic ends the connection; ConnectionClosed releases
			sess.SetIgnoreAutoCommit(inTx)
		}
	}()
	err = run(query)
	settled = true
	if autocommitRead || k == commit || k == rollback {
		sess.SetIgnoreAutoCommit(false)
	}
	if !sess.GetIgnoreAutoCommit() {
		err = errors.Join(err, h.forget(ctx, sess))
		h.release(c.ConnectionID)
	}
	return onlyError(err)
}

// onlyError returns a joined error of one part as that part: the wire wants to see its number.
func onlyError(err error) error {
	var sqlErr *vitess.SQLError
	if errors.As(err, &sqlErr) {
		return sqlErr
	}
	return err
}

// session returns the connection's session, made on first use.
func (h *txHandler) session(ctx context.Context, c *vitess.Conn) (gms.Session, error) {
	sc, err := h.sessions.NewContextWithQuery(ctx, c, "")
	if err != nil {
		return nil, err
	}
	return sc.Session, nil
}

// forget drops the session's copies of tables and the engine's implicit transaction.
func (h *txHandler) forget(ctx context.Context, sess gms.Session) error {
	ts, ok := sess.(gms.TransactionSession)
	if !ok {
		return errors.New("the engine's sessions have no transactions")
	}
	err := ts.Rollback(gms.NewContext(ctx, gms.WithSession(sess)), sess.GetTransaction())
	sess.SetTransaction(nil)
	return err
}

func (h *txHandler) acquire(conn uint32) error {
	t := time.NewTimer(h.wait)
	defer t.Stop()
	select {
	case h.lock <- struct{}{}:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.held[conn] = true
		return nil
	case <-t.C:
		return vitess.NewSQLError(vitess.ERLockWaitTimeout, "HY000", "Lock wait timeout exceeded; try restarting transaction")
	case <-h.done:
		return vitess.NewSQLError(vitess.ERServerShutdown, "08S01", "Server shutdown in progress")
	}
}

// release releases the lock if the connection holds it.
func (h *txHandler) release(conn uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[conn] {
		delete(h.held, conn)
		<-h.lock
	}
}

func (h *txHandler) holds(conn uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[conn]
}

// shut ends every wait for the lock.
func (h *txHandler) shut() { close(h.done) }
