package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// A redrive outlives the workers that run it: each letter is applied or superseded once, and counted once.
func TestRedriveSurvivesKilledWorkers(t *testing.T) {
	w := itemWorld(t)
	w.exec(tame)
	p := w.producer()
	worker := w.startWorker()
	n := w.node("n")
	const all, newer = 1500, 20
	kills := 1
	if os.Getenv("FRESHET_TEST_FULL") != "" {
		kills = 3
	}
	var events []schemas.Event
	for i := range all {
		events = append(events, upsert("items", fmt.Sprint("k", i), 5, "wild"))
	}
	publish(t, p, events...)
	w.reaches(1, "SELECT COUNT(*) FROM freshet_meta WHERE name = 'pause:items'") // a storm
	w.exec("ALTER TABLE items DROP CONSTRAINT tame")
	w.mustRun("datasets", "resume", "items", "--client-url", w.api())
	open := 0
	testenv.Eventually(t, settleLimit, func(ctx context.Context) (err error) {
		rows, err := w.number(ctx, "SELECT COUNT(*) FROM items WHERE _version > 0")
		if err != nil {
			return err
		}
		if open, err = w.number(ctx, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'open'"); err == nil && rows+open != all {
			err = fmt.Errorf("%d rows and %d letters of %d events", rows, open, all)
		}
		return err
	})
	if open < 200 {
		t.Fatalf("%d letters are too few to kill anybody meanwhile", open)
	}
	// Someone else wrote newer states.
	w.exec(fmt.Sprintf("INSERT INTO items (id, n, body, _version, _deleted, _at) SELECT record_key, 9, 'x', 9, 0, 1 FROM freshet_dead_letter WHERE state = 'open' ORDER BY off LIMIT %d", newer))

	url := w.api()
	dry := ask[api.Replay](w, url, 0, "replay", "start", "items", "--action", "redrive", "--rate", "100000", "--watch")
	if int(dry.Total.Events) != open || int(dry.Total.Stale) != newer || int(dry.Total.Applied) != open-newer {
		t.Errorf("dry run: %+v of %d letters", dry.Total, open)
	}
	job := ask[api.Replay](w, url, 0, "replay", "start", "items", "--action", "redrive", "--apply", "--rate", strconv.Itoa(max(open/20, 10)))
	for kill := range kills {
		var before int64
		testenv.Eventually(t, settleLimit, func(context.Context) error {
			got := ask[api.Replay](w, url, 0, "replay", "status", job.ID)
			if before == 0 {
				before = got.Total.Events + 1
			}
			if kill > 0 && got.Total.Events < before || got.Total.Events == 0 {
				return fmt.Errorf("kill %d: redrive stands at %+v", kill, got.Total)
			}
			return nil
		})
		worker.Kill(t)
		worker = w.startWorker()
	}
	if got := ask[api.Replay](w, url, 0, "replay", "status", job.ID); got.State != "running" {
		t.Fatalf("the kills came too late: %+v", got)
	}
	ask[api.Replay](w, url, 0, "replay", "limit", job.ID, "--rate", "100000")
	done := ask[api.Replay](w, url, 0, "replay", "watch", job.ID)
	if done.Total.Applied != dry.Total.Applied || done.Total.Stale != dry.Total.Stale || int(done.Total.Events) != open || done.Takeovers == 0 {
		t.Errorf("redrive ended as %+v after %d takeovers; the dry run said %+v", done.Total, done.Takeovers, dry.Total)
	}
	t.Logf("%d letters: %d applied, %d superseded, %d takeovers in %d kills", done.Total.Events, done.Total.Applied, done.Total.Stale, done.Takeovers, kills)
	w.reaches(open-newer, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'redriven' AND attempts = 1")
	w.reaches(newer, "SELECT COUNT(*) FROM freshet_dead_letter WHERE state = 'superseded'")
	w.reaches(all-newer, "SELECT COUNT(*) FROM items WHERE _version = 5")
	w.reaches(0, "SELECT COUNT(*) FROM freshet_invalidation_outbox")
	for _, key := range []string{"k0", "k1499"} {
		testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
			v, err := n.items.Get(ctx, key)
			if err == nil && v.N != 5 && v.N != 9 {
				err = fmt.Errorf("the node has version %d of %s", v.N, key)
			}
			return err
		})
	}
}
