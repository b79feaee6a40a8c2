package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/freshet/freshet/cmd/freshet/internal/bench"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Each workload leaves the same rows in the table of each consumer, so they did the same work.
func TestConsumersWriteTheSameRows(t *testing.T) {
	my, kafka, redis := testenv.MySQL(t), testenv.Kafka(t), testenv.Redis(t)
	kafka.RequireReal(t)
	for _, workload := range bench.Workloads() {
		t.Run(workload, func(t *testing.T) {
			dsn := my.NewDatabase(t)
			db := my.Open(t, dsn)
			l, err := config.Load(config.Source{Environ: []string{
				"FRESHET_KAFKA__BROKERS=" + strings.Join(kafka.Brokers, ","), "FRESHET_MYSQL__DSN=" + dsn, "FRESHET_REDIS__URL=redis://" + redis.Addr + "/0", "FRESHET_WORKER__MAX_BATCH=50",
			}})
			if err != nil {
				t.Fatal(err)
			}
			log := slog.New(slog.DiscardHandler)
			f := bench.ApplyConfig{
				Workload: workload, Events: 600, Records: 100, Partitions: 3, Size: 290, Turns: 2,
				Consumers: []string{bench.ConsumerWorker, bench.ConsumerHand, bench.ConsumerBare},
			}
			seen := map[string]bool{}
			f.Spawn = func(ctx context.Context, turn bench.TurnConfig) ([]byte, error) {
				m, err := bench.Turn(ctx, l.Config, f, turn, log)
				if err != nil {
					return nil, err
				}
				table, own := "`"+turn.Rig+"_plain`", "deleted, version"
				if turn.Consumer == bench.ConsumerWorker {
					table, own = "`"+turn.Rig+"`", "_deleted, _version"
				}
				rows, err := db.QueryContext(ctx, "SELECT CONCAT_WS(',', id, "+own+", COALESCE(n, 'none'), COALESCE(active, 'none'), COALESCE(score, 'none'), COALESCE(LENGTH(body), 'none')) FROM "+table+" ORDER BY id")
				if err != nil {
					return nil, fmt.Errorf("read rows: %w", err)
				}
				defer rows.Close()
				var all []string
				for rows.Next() {
					var one string
					if err := rows.Scan(&one); err != nil {
						return nil, fmt.Errorf("read rows: %w", err)
					}
					all = append(all, one)
				}
				if err := rows.Err(); err != nil {
					return nil, fmt.Errorf("read rows: %w", err)
				}
				seen[strings.Join(all, "\n")] = true
				return json.Marshal(m)
			}
			res, err := bench.Apply(t.Context(), l.Config, f, log)
			if err != nil {
				t.Fatal(err)
			}
			if len(seen) != 1 || seen[""] {
				t.Errorf("%d different tables, empty: %t", len(seen), seen[""])
			}
			if len(res.Consumers) != 3 || res.Rows == 0 || res.Ratios["worker/hand"].Min <= 0 {
				t.Errorf("result %+v", res)
			}
			var left int
			if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'bench%'").Scan(&left); err != nil || left != 0 {
				t.Errorf("%d tables are left: %v", left, err)
			}
		})
	}
}
