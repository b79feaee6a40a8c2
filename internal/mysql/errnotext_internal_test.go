package mysql

import (
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// TestServerErrorsHaveWords: what a setup runs into is said in words, in every error, and never in the server's.
func TestServerErrorsHaveWords(t *testing.T) {
	for number, want := range map[uint16]string{
		1040: "max_connections", 1226: "connection", 1461: "max_prepared_stmt_count", 1665: "binlog_format = ROW", 1253: "charset", 1118: "8126",
		1364: "default", 1267: "collation", 3024: "max_execution_time", 1969: "max_statement_time", 1526: "partition", 1146: "freshet migrate",
		1045: "access denied", 1290: "read-only", 1049: "DSN",
	} {
		err := Wrap("write row", "items", &mysql.MySQLError{Number: number, Message: "secret"})
		if text := err.Error(); !strings.Contains(text, want) || strings.Contains(text, "secret") {
			t.Errorf("%d: %q does not contain %q", number, text, want)
		}
		if n, ok := Errno(err); !ok || n != number {
			t.Errorf("%d: the number of the error is %d", number, n)
		}
	}
	if got := ErrnoText(9999); got != "mysql error 9999" {
		t.Errorf("an unknown number: %q", got)
	}
	if Classify(&mysql.MySQLError{Number: 4031}) != ClassConnection {
		t.Error("a connection that the server ended is not taken for one")
	}
}
