package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"testing"
)

// deafConn takes SET and keeps its own values, as a proxy may.
type deafConn struct {
	driver.Conn

	values []driver.Value
	closed bool
}

func (c *deafConn) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (c *deafConn) Driver() driver.Driver                        { return nil }
func (c *deafConn) Close() error                                 { c.closed = true; return nil }

func (c *deafConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(0), nil
}

func (c *deafConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &deafRows{c.values}, nil
}

type deafRows struct{ values []driver.Value }

func (r *deafRows) Columns() []string { return make([]string, len(r.values)) }
func (r *deafRows) Close() error      { return nil }

func (r *deafRows) Next(dest []driver.Value) error {
	if copy(dest, r.values) < len(dest) {
		return io.EOF
	}
	return nil
}

// TestSessionVariableIsNamed: a session that stays different is refused with the variable's name, and closed.
func TestSessionVariableIsNamed(t *testing.T) {
	kept := func() (vs []driver.Value) {
		for _, v := range sessionValues() {
			vs = append(vs, []byte(v.want))
		}
		return vs
	}
	good := &deafConn{values: kept()}
	good.values[3] = []byte("NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,STRICT_ALL_TABLES")
	good.values[5], good.values[7] = int64(1), uint64(18446744073709551615)
	if _, err := (sessionConnector{good}).Connect(t.Context()); err != nil || good.closed {
		t.Errorf("a good session: %v, closed %t", err, good.closed)
	}
	for i, v := range sessionValues() {
		conn := &deafConn{values: kept()}
		conn.values[i] = []byte("other")
		_, err := sessionConnector{conn}.Connect(t.Context())
		var se *SessionError
		if !errors.As(err, &se) || se.Variable != v.name || !strings.Contains(err.Error(), v.name) || !conn.closed {
			t.Errorf("%s: %v, closed %t", v.name, err, conn.closed)
		}
	}
	short := &deafConn{values: kept()[:3]}
	if _, err := (sessionConnector{short}).Connect(t.Context()); err == nil || !short.closed {
		t.Errorf("a short answer: %v", err)
	}
}
