package roster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A worker that becomes ready, or whose partitions change, says so at once, and not only with its next regular word.
func TestWorkersAnnounceChanges(t *testing.T) {
	srv := testenv.MySQL(t)
	db := srv.Open(t, srv.NewDatabase(t))
	mig, err := migrations.New(db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	var now atomic.Pointer[api.WorkerState]
	now.Store(&api.WorkerState{Owner: "w", NotReady: []string{"waits"}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- roster.Announce(ctx, db, func() api.WorkerState { return *now.Load() }, slog.New(slog.DiscardHandler))
	}()
	// Regular words alone would need all of this time and a half.
	const changes = 15
	limit, end := context.WithTimeout(t.Context(), changes*roster.Interval*2/3)
	defer end()
	for i := range changes {
		st := &api.WorkerState{Owner: "w", Partitions: []api.WorkerPartition{{Topic: "t", Partition: int32(i)}}}
		now.Store(st)
		testenv.Eventually(t, time.Minute, func(context.Context) error {
			workers, err := roster.Workers(limit, db)
			if err != nil {
				return err
			}
			if len(workers) != 1 || len(workers[0].Partitions) != 1 || workers[0].Partitions[0] != st.Partitions[0] {
				return fmt.Errorf("change %d: workers %+v", i, workers)
			}
			return nil
		})
	}
	cancel()
	if err := testenv.Await(t, done); err != nil {
		t.Fatal(errors.New("it does not end"))
	}
}
