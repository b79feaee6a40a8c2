package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// strictMode makes the server refuse values that it would otherwise change silently, and keep the key 0 in a column with
// AUTO_INCREMENT, where it would otherwise choose another one.
const strictMode = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"

// setSession sets every session variable that changes what Freshet's statements mean. A session inherits them
// from the server's defaults and its init_connect, so no connection may be used without it. The comments select one
// server: MariaDB reads the first and skips the second, MySQL the other way round. wait_timeout and the lock waits bound
// how long something takes, not what it means; a Conn sets its own.
const setSession = "SET character_set_client = utf8mb4, character_set_results = utf8mb4, collation_connection = utf8mb4_bin," +
	" sql_mode = '" + strictMode + "', time_zone = '+00:00', autocommit = 1, completion_type = 'NO_CHAIN'," +
	" sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, sql_auto_is_null = 0, unique_checks = 1" +
	"/*M! , tx_isolation = 'READ-COMMITTED', check_constraint_checks = 1 */" +
	"/*!80000 , transaction_isolation = 'READ-COMMITTED' */"

// readSession reads them back: a proxy between the two may answer SET by itself. The last column is 1 unless the session's
// clock was set by hand, which would make every lock and pause of Freshet expire at the wrong time, or never.
const readSession = "SELECT @@character_set_client, @@character_set_results, @@collation_connection, @@sql_mode, @@time_zone, @@autocommit," +
	" @@completion_type, @@sql_select_limit, @@sql_safe_updates, @@sql_auto_is_null, @@unique_checks," +
	" ABS(TIMESTAMPDIFF(SECOND, NOW(), SYSDATE())) < 60"

// sessionValue is a column of readSession and the value that Freshet needs.
type sessionValue struct{ name, want string }

func sessionValues() []sessionValue {
	return []sessionValue{
		{"character_set_client", "utf8mb4"},
		{"character_set_results", "utf8mb4"},
		{"collation_connection", "utf8mb4_bin"},
		{"sql_mode", strictMode},
		{"time_zone", "+00:00"},
		{"autocommit", "1"},
		{"completion_type", "NO_CHAIN"},
		{"sql_select_limit", "18446744073709551615"},
		{"sql_safe_updates", "0"},
		{"sql_auto_is_null", "0"},
		{"unique_checks", "1"},
		{"timestamp", "1"},
	}
}

// SessionError is returned when a server, or a proxy before it, does not keep a session
// variable at the value that Freshet's statements depend on.
type SessionError struct {
	// Variable is the session variable; Have is its value and Want the value it must have.
	Variable, Have, Want string
}

// Error states the variable and how to fix it.
func (e *SessionError) Error() string {
	if e.Variable == "timestamp" {
		return "session variable timestamp is set, so the session's clock is stopped; remove it from init_connect"
	}
	return fmt.Sprintf("session variable %s is %q and cannot be set to %q; correct init_connect, or the proxy between Freshet and the server",
		e.Variable, e.Have, e.Want)
}

// sessionConnector makes connections that have the session variables of setSession.
type sessionConnector struct{ driver.Connector }

// Connect opens a connection, sets its session variables and verifies them.
func (s sessionConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err // database/sql and Classify look at it unchanged
	}
	if err := prepareSession(ctx, conn); err != nil {
		_ = conn.Close() // the first error says more
		return nil, err
	}
	return conn, nil
}

func prepareSession(ctx context.Context, conn driver.Conn) error {
	exec, ok := conn.(driver.ExecerContext)
	query, ok2 := conn.(driver.QueryerContext)
	if !ok || !ok2 {
		return errors.New("set session variables: the driver's connection runs no plain statements; use github.com/go-sql-driver/mysql")
	}
	if _, err := exec.ExecContext(ctx, setSession, nil); err != nil {
		return Wrap("set session variables", "", err)
	}
	rows, err := query.QueryContext(ctx, readSession, nil)
	if err != nil {
		return Wrap("read session variables", "", err)
	}
	defer rows.Close()
	want := sessionValues()
	have := make([]driver.Value, len(want))
	if n := len(rows.Columns()); n != len(want) {
		return fmt.Errorf("read session variables: the server returned %d of %d columns", n, len(want))
	}
	if err := rows.Next(have); err != nil {
		return Wrap("read session variables", "", err)
	}
	for i, v := range want {
		if got := textOf(have[i]); !sameWords(got, v.want) {
			return &SessionError{Variable: v.name, Have: got, Want: v.want}
		}
	}
	return nil
}

// textOf is a value of the text protocol; drivers return numbers as bytes or as integers.
func textOf(v driver.Value) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// sameWords compares lists such as sql_mode, whose order is the server's.
func sameWords(a, b string) bool {
	if a == b {
		return true
	}
	as, bs := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(as)
	slices.Sort(bs)
	return slices.Equal(as, bs)
}
