package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/go-sql-driver/mysql"
)

// Class is what to do about an error.
type Class uint8

const (
	// ClassInfrastructure: roll back and return the error to the caller, who tries again later.
	ClassInfrastructure Class = iota
	// ClassConflict: another transaction was in the way; the whole transaction again, at once.
	ClassConflict
	// ClassConnection: the connection is gone and with it the transaction; what became of it is unknown.
	ClassConnection
	// ClassPoison: one of the statement's rows can never be stored; find it.
	ClassPoison
	// ClassDataset: the table is not what the dataset says.
	ClassDataset
	// ClassUnknown: a number of the server that is not listed. On a replica table the row's or the table's: the caller finds out which.
	ClassUnknown
)

// classOf is the one table of MySQL's error numbers. The texts are never looked at, because they hold values.
func classOf(number uint16) Class {
	switch number {
	case 1213, // deadlock: the server rolled back everything
		1205, // lock wait: the server rolled back the statement only
		3572, // NOWAIT
		1020: // record changed since last read
		return ClassConflict
	case 1927, // killed (MariaDB)
		4031: // idle for too long (MySQL)
		return ClassConnection
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
		return ClassPoison
	case 1054, // unknown column
		1064,       // syntax
		1136,       // number of columns
		1146,       // no such table
		1390,       // too many placeholders
		1451, 1452: // foreign key: order between records is not promised
		return ClassDataset
	}
	if isInfrastructure(number) {
		return ClassInfrastructure
	}
	return ClassUnknown
}

// isInfrastructure reports whether an error is the server's, the account's or the connection's: it must never become a dead
// letter. Those that end the transaction at the server are here as well, since nothing may be sent in it afterwards.
func isInfrastructure(number uint16) bool {
	switch number {
	case 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018, 1019, 1021, 1022, 1023, 1024, 1025,
		1026, 1027, 1028, 1029, 1030, 1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038, // files, engines, disk and memory
		1039, 1040, 1041, 1042, 1043, 1047, 1053, 1077, 1078, 1079, 1080, 1081, 1105, // connections, shutdown, and what proxies answer
		1044, 1045, 1046, 1049, 1095, 1129, 1130, 1131, 1132, 1133, 1142, 1143, 1227, 1370, 1410, 1449, 1698, 1820, 1862, 3118, 3159,
		3878, 3879, 3955, 4151, // accounts, rights and hosts
		1099, 1100, 1223, 1290, 1792, 1836, 1880, 3100, // read-only and locked tables
		1114, 1135, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1189, 1190, 1192, 1194, 1195, 1199, 1203,
		1206, 1226, 1243, 1297, 1436, 1461, 1615, // limits, packets, crashed tables, statements to be prepared again
		1180, 1181, 1196, 1197, 1207, 1402, 1534, 1568, 1592, 1593, 1613, 1614, 1637, 1665, 1705, 1712, 1728, 1812, 1813, 1814, 1815, 1878,
		1881, 3101, 3098, 3168, 3169, // commit, binary log, tablespaces, group replication
		1317, 1412, 1969, 1968, 3024, 1928, 1950, 1964: // interrupted, or the table is being altered
		return true
	}
	return number >= 2000 && number < 3000 // of clients, which proxies pass on
}

// IsRefusal reports whether the server refused a statement for what it was to store, perhaps.
func IsRefusal(err error) bool {
	c := Classify(err)
	return c == ClassPoison || c == ClassUnknown
}

// ErrConflict is wrapped by the errors of functions that want their transaction begun again.
var ErrConflict = errors.New("the transaction must begin again")

// Classify returns the class of an error of a statement on a replica table.
func Classify(err error) Class {
	if errors.Is(err, ErrConflict) {
		return ClassConflict
	}
	if n, ok := Errno(err); ok {
		return classOf(n)
	}
	var netErr net.Error
	switch {
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.As(err, &netErr):
		return ClassConnection
	}
	return ClassInfrastructure
}

// classifyOwn classes an error of a statement on Freshet's own tables. There a duplicate is a race of ours, and nothing
// is ever a record's or a dataset's fault.
func classifyOwn(err error) Class {
	c := Classify(err)
	if n, _ := Errno(err); n == 1062 {
		return ClassConflict
	}
	if c == ClassPoison || c == ClassDataset || c == ClassUnknown {
		return ClassInfrastructure
	}
	return c
}

// Errno returns the server's error number if err came from the server.
func Errno(err error) (uint16, bool) {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number, true
	}
	return 0, false
}

// IsLockWait reports whether a statement waited in vain for a lock that another session holds on rows or on a table.
func IsLockWait(err error) bool {
	n, _ := Errno(err)
	return n == 1205 || n == 3572
}

// serverError hides the text of a server's error, which may quote a row, and keeps its number.
type serverError struct {
	number uint16
	err    error
}

func (e *serverError) Error() string { return ErrnoText(e.number) }

func (e *serverError) Unwrap() error { return e.err }

// Wrap adds to an error what was being done, and the table unless it is empty, and hides the server's text. It returns nil for nil.
func Wrap(what, table string, err error) error {
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

// ended reports whether ctx, not the database, ended an operation.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
