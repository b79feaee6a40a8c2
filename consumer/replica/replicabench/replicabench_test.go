package replicabench_test

import (
	"database/sql"
	"testing"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/consumer/replica/replicabench"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// fresh is an empty database with Freshet's own tables.
func fresh(t testing.TB) (string, *sql.DB) {
	t.Helper()
	srv := testenv.MySQL(t)
	dsn := srv.NewDatabase(t)
	db := srv.Open(t, dsn)
	mig, err := migrations.New(db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dsn, db
}

func TestRunLeavesNothing(t *testing.T) {
	dsn, db := fresh(t)
	res, err := replicabench.Run(t.Context(), replicabench.Config{
		Replica: replica.Config{DSN: dsn}, Rows: 500, Batch: 100, Conns: 2, Batches: 2, Rounds: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Rows != 3*2*2*100 || res.Apply <= 0 || res.Bare <= 0 || res.Ratio <= 0 {
		t.Errorf("result %+v", res)
	}
	var left int
	if err = db.QueryRowContext(t.Context(), "SELECT (SELECT COUNT(*) FROM freshet_position) + (SELECT COUNT(*) FROM freshet_position_history) + "+
		"(SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?)", replicabench.Table).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d things are left, %v", left, err)
	}
}

func TestRunNeedsTables(t *testing.T) {
	srv := testenv.MySQL(t)
	if _, err := replicabench.Run(t.Context(), replicabench.Config{Replica: replica.Config{DSN: srv.NewDatabase(t)}}); err == nil {
		t.Error("ran without Freshet's own tables")
	}
}

func BenchmarkApply(b *testing.B) {
	for name, conns := range map[string]int{"1conn": 1, "2conns": 2, "4conns": 4} {
		b.Run(name, func(b *testing.B) {
			dsn, _ := fresh(b)
			for b.Loop() {
				res, err := replicabench.Run(b.Context(), replicabench.Config{Replica: replica.Config{DSN: dsn}, Conns: conns})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(res.Apply, "apply-rows/s")
				b.ReportMetric(res.Bare, "bare-rows/s")
				b.ReportMetric(res.Ratio, "ratio")
			}
		})
	}
}
