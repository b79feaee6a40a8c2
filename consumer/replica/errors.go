package replica

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/go-sql-driver/mysql"
)

// class says what to do about an error.
type class uint8

const (
	// classInfrastructure: roll back and give the error to the caller, who tries again later. Unknown numbers are here.
	classInfrastructure class = iota
	// classConflict: another transaction was in the way; the whole transaction again, at once.
	classConflict
	// classConnection: the connection is gone and with it the transaction; what became of it is unknown.
	classConnection
	// classPoison: one of the statement's rows can never be stored; find it.
	classPoison
	// classDataset: the table is not what the dataset says.
	classDataset
)

// classOf is the one table of MySQL's error numbers. The texts are never looked at: they hold values.
func classOf(number uint16) class {
	switch number {
	case 1213, // deadlock: the server rolled back everything
		1205, // lock wait: the server rolled back the statement only
		3572, // NOWAIT
		1020: // record changed since last read
		return classConflict
	case 1927, // killed (MariaDB)
		4031: // idle for too long (MySQL)
		return classConnection
	case 1048, // NULL in a NOT NULL column
		1062, // a second unique key
		1264, // out of range
		1265, // truncated
		1292, // wrong date or time
		1366, // wrong value or bytes
		1406, // too long
		1690, // out of range in an expression
		3140, // invalid JSON
		3819, // CHECK (MySQL)
		4025: // CHECK (MariaDB)
		return classPoison
	case 1054, // unknown column
		1064,       // syntax
		1136,       // number of columns
		1146,       // no such table
		1390,       // too many placeholders
		1451, 1452: // foreign key: order between records is not promised
		return classDataset
	}
	// 1040 1203 1053 1158–1161 1290 1792 1836 1114 1021 1044 1045 1142 and whatever is not known here: not ready.
	return classInfrastructure
}

// classify classes an error of a statement on a replica table.
func classify(err error) class {
	if n, ok := Errno(err); ok {
		return classOf(n)
	}
	var netErr net.Error
	switch {
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.As(err, &netErr):
		return classConnection
	}
	return classInfrastructure
}

// classifyOwn classes an error of a statement on Freshet's own tables. There a duplicate is a race of ours, and nothing
// is ever a record's or a dataset's fault.
func classifyOwn(err error) class {
	c := classify(err)
	if n, _ := Errno(err); n == 1062 {
		return classConflict
	}
	if c == classPoison || c == classDataset {
		return classInfrastructure
	}
	return c
}

// Errno gives the server's error number, if err came from the server.
func Errno(err error) (uint16, bool) {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number, true
	}
	return 0, false
}

// serverError hides the text of a server's error, which may quote a row, and keeps its number.
type serverError struct {
	number uint16
	err    error
}

func (e *serverError) Error() string { return ErrnoText(e.number) }

func (e *serverError) Unwrap() error { return e.err }

// doing says at what an error came, without the server's text. table may be empty. nil stays nil.
func doing(what, table string, err error) error {
	if err == nil {
		return nil
	}
	if table != "" {
		what += " " + table
	}
	var hidden *serverError
	var my *mysql.MySQLError
	if errors.As(err, &my) && !errors.As(err, &hidden) {
		err = &serverError{number: my.Number, err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ended says whether ctx, not the database, ended an operation.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
