package mysql_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Arguments of every type reach the table unchanged. Texts may be parts of a buffer that is used again as soon as the statement
// has been executed, and the connection keeps none of them.
func TestExecSized(t *testing.T) {
	pool, err := mysql.Open(t.Context(), mysql.Config{DSN: testenv.MySQL(t).NewDatabase(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	const create = "CREATE TABLE t (id BIGINT PRIMARY KEY, s VARCHAR(100), u BIGINT UNSIGNED, f DOUBLE, b VARBINARY(10), o TINYINT, x DOUBLE) CHARACTER SET utf8mb4"
	if _, err := pool.DB().ExecContext(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	c, err := pool.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text := func(rows int) string {
		return "INSERT INTO t VALUES (?,?,?,?,?,?,?)" + strings.Repeat(",(?,?,?,?,?,?,?)", rows-1)
	}
	buffer := make([]byte, 100)
	var want []string
	next := int64(0)
	for round := range 3 {
		for _, rows := range []int{1, 400, 2} { // 400 rows are more than the driver's own buffer takes
			args := c.Room(7 * rows)
			for i := range rows {
				n := copy(buffer, fmt.Sprintf("text %d of %d ü", i, round))
				s := unsafe.String(&buffer[0], n)
				if i > 0 {
					s = fmt.Sprintf("own %d", i)
				}
				next++
				args = append(args, next, any(s), uint64(math.MaxUint64), 0.25, []byte{0, 0xff}, true, float32(0.5))
				if i == 1 {
					args[len(args)-6] = nil
					s = "NULL"
				}
				want = append(want, fmt.Sprintf("%d|%s|18446744073709551615|0.25|00FF|1|0.5", next, strings.Clone(s)))
			}
			// The text of the first row is the buffer's by now.
			want[len(want)-rows] = fmt.Sprintf("%d|text %d of %d ü|18446744073709551615|0.25|00FF|1|0.5", next-int64(rows)+1, 0, round)
			copy(buffer, fmt.Sprintf("text %d of %d ü", 0, round))
			res, err := c.ExecSized(t.Context(), mysql.StatementID{Of: "t", Rows: rows}, text, args...)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := res.RowsAffected(); err != nil || n != int64(rows) {
				t.Errorf("%d rows affected, want %d: %v", n, rows, err)
			}
			for i := range buffer {
				buffer[i] = 0xEE
			}
			if slices.ContainsFunc(args, func(v any) bool { return v != nil }) {
				t.Error("the connection keeps arguments")
			}
		}
	}
	got, err := mysql.Texts(t.Context(), pool.DB(), "read", "SELECT CONCAT_WS('|', id, COALESCE(s, 'NULL'), u, f, HEX(b), o, x) FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("row %d is %s, want %s", i, got[i], want[i])
			}
		}
	}
}

// More sizes than a connection keeps statements for: the ones that were not used for the longest time are prepared again.
func TestExecSizedForgetsStatements(t *testing.T) {
	pool, err := mysql.Open(t.Context(), mysql.Config{DSN: testenv.MySQL(t).NewDatabase(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	c, err := pool.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecOnce(t.Context(), "CREATE TEMPORARY TABLE t (n BIGINT)"); err != nil {
		t.Fatal(err)
	}
	const kinds = 320
	for range 2 {
		for kind := range kinds {
			text := func(int) string { return fmt.Sprintf("INSERT INTO t VALUES (? + %d)", kind) }
			if _, err := c.ExecSized(t.Context(), mysql.StatementID{Of: kind, Rows: 1}, text, int64(kind)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var sum int64
	if err := c.QueryRow(t.Context(), "SELECT SUM(n) FROM t", nil, &sum); err != nil || sum != 2*kinds*(kinds-1) {
		t.Errorf("sum %d: %v", sum, err)
	}
	// Prepared_stmt_count has those of all connections.
	counted := func(what string) (n int64) {
		var name string
		if err := c.QueryRow(t.Context(), "SHOW SESSION STATUS LIKE 'Com_stmt_"+what+"'", nil, &name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if open := counted("prepare") - counted("close"); open <= 0 || open >= kinds {
		t.Errorf("%d statements are open", open)
	}
}
