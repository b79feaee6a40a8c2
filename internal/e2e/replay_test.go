package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/admin"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// replaySize gives how many past events are replayed and how many live ones come a second meanwhile.
// FRESHET_TEST_REPLAY=1000000 is the full size.
func replaySize(t *testing.T) (past int, live rate.Limit) {
	t.Helper()
	text := os.Getenv("FRESHET_TEST_REPLAY")
	if text == "" {
		return 20_000, 300
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n, 2000
}

// Live traffic does not notice a replay, and both end in what the publishers said.
func TestReplayBesideLiveTraffic(t *testing.T) {
	past, live := replaySize(t)
	w := itemWorld(t)
	p := w.producer()
	const perKey = 4
	for v := int64(1); v <= perKey; v++ {
		for k := 0; k < past/perKey; k += 1000 {
			var evs []schemas.Event
			for i := k; i < min(k+1000, past/perKey); i++ {
				evs = append(evs, upsert("items", fmt.Sprintf("p%d", i), v, "past"))
			}
			publish(t, p, evs...)
		}
	}
	_, url := w.serve("w1")
	w.reaches(past/perKey, "SELECT COUNT(*) FROM items WHERE _version = 4")
	w.exec("UPDATE items SET n = 1, _version = 1 WHERE id LIKE '%7'")
	w.exec("DELETE FROM items WHERE id LIKE '%3'")
	n := w.node("n1")

	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	defer traffic.Wait()
	defer stop()
	var published int64
	traffic.Go(func() {
		for limit := rate.NewLimiter(live, int(live)/10); limit.WaitN(ctx, int(live)/20) == nil; {
			var evs []schemas.Event
			for range int(live) / 20 {
				published++
				evs = append(evs, upsert("items", fmt.Sprintf("l%d", published%500), published, "live"))
			}
			if _, err := p.Publish(ctx, evs...); err != nil {
				return
			}
		}
	})
	before := w.visible(p, n, "before", nil)
	job := ask[admin.Replay](w, url, 0, "replay", "start", "items", "--apply", "--rate", strconv.Itoa(max(past/10, 4000)))
	began := time.Now()
	var done admin.Replay
	during := w.visible(p, n, "during", func() bool {
		done = ask[admin.Replay](w, url, 0, "replay", "status", job.ID)
		return done.State != "running"
	})
	testenv.Eventually(t, 10*time.Minute, func(context.Context) error {
		if done = ask[admin.Replay](w, url, 0, "replay", "status", job.ID); done.State == "running" {
			return fmt.Errorf("%+v", done.Total)
		}
		return nil
	})
	t.Logf("%d past events replayed in %.1f s beside %v live events/s: publish to visible at a node p99 %v, without the replay %v (%.2f times)",
		done.Total.Events, time.Since(began).Seconds(), live, during, before, float64(during)/float64(before))
	if done.State != "done" || int(done.Total.Events) < past {
		t.Errorf("replay: %s, %+v", done.State, done.Total)
	}
	// The machine of the tests is shared, so a small absolute rise says nothing.
	if during > 2*before+100*time.Millisecond {
		t.Errorf("live events were seen after %v at p99, %v without the replay", during, before)
	}
	stop()
	traffic.Wait()
	w.reaches(past/perKey, "SELECT COUNT(*) FROM items WHERE id LIKE 'p%' AND _version = 4 AND n = 4")
}

// visible publishes one event after the other, waits until the node has it, and gives p99; 100 of them, or until ended.
func (w *world) visible(p *producer.Producer, n *node, prefix string, ended func() bool) time.Duration {
	w.t.Helper()
	var took []time.Duration
	for i := 0; ended == nil && i < 100 || ended != nil && (i < 20 || i%20 != 0 || !ended()); i++ {
		began := time.Now()
		tok := publish(w.t, p, upsert("items", prefix+strconv.Itoa(i%10), int64(i+1), "b"))
		w.seen(n.Node, tok)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100].Round(100 * time.Microsecond)
}
