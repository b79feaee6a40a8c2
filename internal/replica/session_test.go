package replica_test

import (
	"testing"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// TestSessionOfTheServerIsReplaced runs the writers and readers on servers whose defaults, or whose init_connect, change
// what a statement means: text stored twice encoded, changes that no commit keeps, results cut short.
func TestSessionOfTheServerIsReplaced(t *testing.T) {
	inherited := "SET NAMES latin1, autocommit = 0, sql_select_limit = 1, sql_auto_is_null = 1, sql_safe_updates = 1, unique_checks = 0," +
		" completion_type = 2, sql_mode = 'ANSI_QUOTES'"
	defaults := []string{"--character-set-server=latin1", "--autocommit=0", "--completion-type=CHAIN", "--transaction-isolation=SERIALIZABLE"}
	if testenv.MySQL(t).MariaDB() {
		inherited += ", check_constraint_checks = 0"
		defaults = append(defaults, "--skip-character-set-client-handshake")
	}
	for name, args := range map[string][]string{"defaults": defaults, "init_connect": {"--init-connect=" + inherited}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := testenv.StartMySQL(t, testenv.MySQLOptions{Args: args})
			dsn := srv.NewDatabase(t)
			root := srv.Open(t, dsn)
			b := newBed(t, replica.Config{MySQL: mysql.Config{DSN: plainUser(t, root, dsn), Writers: 1}})
			b.apply(t, b.item(t, 1, 1, "Größe"))
			b.apply(t, b.item(t, 2, 1, "b"), b.item(t, 1, 2, "日本"))
			b.apply(t, b.event(t, "names", 1, schemas.Upsert, `{"name":"Größe","n":1}`), bad(b.item(t, 3, 1, "c")), bad(b.item(t, 4, 1, "d")))
			var items, hex, key string
			if err := root.QueryRowContext(t.Context(), "SELECT GROUP_CONCAT(id, ':', _version ORDER BY id), MIN(HEX(name)) FROM items").Scan(&items, &hex); err != nil {
				t.Fatal(err)
			}
			if err := root.QueryRowContext(t.Context(), "SELECT HEX(name) FROM names").Scan(&key); err != nil {
				t.Fatal(err)
			}
			if items != "1:2,2:1" || hex != "62" || key != "4772C3B6C39F65" {
				t.Errorf("items %s, least name %s, key %s", items, hex, key)
			}
			b.wantRow(t, 1, "2:日本")
			if got := len(b.letters(t)); got != 2 {
				t.Errorf("a reader sees %d of 2 dead letters", got)
			}
		})
	}
}
