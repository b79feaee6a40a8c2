package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// patient gives a world as much time as so many past events take at a thousand a second.
func (w *world) patient(past int) { w.patience = settleLimit + time.Duration(past)*time.Millisecond }

// Live traffic does not notice a replay, and both end in what the publishers said.
func TestReplayBesideLiveTraffic(t *testing.T) {
	past, live := replaySize(t)
	w := itemWorld(t)
	w.patient(past)
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
	before := w.visible(p, n, url, "before", nil)
	job := ask[admin.Replay](w, url, 0, "replay", "start", "items", "--apply", "--rate", strconv.Itoa(max(past/10, 4000)))
	began := time.Now()
	var done admin.Replay
	during := w.visible(p, n, url, "during", func() bool {
		done = ask[admin.Replay](w, url, 0, "replay", "status", job.ID)
		return done.State != "running"
	})
	testenv.Eventually(t, w.patience, func(context.Context) error {
		if done = ask[admin.Replay](w, url, 0, "replay", "status", job.ID); done.State == "running" {
			return fmt.Errorf("%+v", done.Total)
		}
		return nil
	})
	took := time.Since(began)
	t.Logf("%d events replayed in %.1f s, %.0f/s, beside %v live events/s, for %d past ones", done.Total.Events, took.Seconds(), float64(done.Total.Events)/took.Seconds(), live, past)
	t.Logf("without the replay: %v", before)
	t.Logf("beside the replay:  %v (p99 %.2f times)", during, float64(during.p99)/float64(before.p99))
	if done.State != "done" || int(done.Total.Events) < past {
		t.Errorf("replay: %s, %+v", done.State, done.Total)
	}
	// The machine of the tests is shared, so a small absolute rise says nothing.
	if during.p99 > 2*before.p99+100*time.Millisecond {
		t.Errorf("live events were seen after %v at p99, %v without the replay", during.p99, before.p99)
	}
	stop()
	traffic.Wait()
	w.reaches(past/perKey, "SELECT COUNT(*) FROM items WHERE id LIKE 'p%' AND _version = 4 AND n = 4")
}

// seenAfter is how live events fared: from publishing to being visible at a node, and how many were not applied yet.
type seenAfter struct {
	n                int
	p50, p99         time.Duration
	lag, lagMost     int64   // records: the median of the looks, and the greatest
	lagTime, lagLong float64 // seconds that the oldest of them waited
}

func (s seenAfter) String() string {
	return fmt.Sprintf("%d events, publish to visible at a node p50 %v, p99 %v; behind by %d records and %.2f s in the median, %d and %.2f s at most",
		s.n, s.p50, s.p99, s.lag, s.lagTime, s.lagMost, s.lagLong)
}

// visible publishes one event after the other and waits until the node has it: 200 of them, or until ended.
func (w *world) visible(p *producer.Producer, n *node, url, prefix string, ended func() bool) (out seenAfter) {
	w.t.Helper()
	var took []time.Duration
	var records []int64
	var seconds []float64
	for i := 0; ended == nil && i < 200 || ended != nil && (i < 20 || i%20 != 0 || !ended()); i++ {
		began := time.Now()
		tok := publish(w.t, p, upsert("items", prefix+strconv.Itoa(i%10), int64(i+1), "b"))
		w.seen(n.Node, tok)
		took = append(took, time.Since(began))
		if i%10 == 0 {
			r, s := w.lag(url)
			records, seconds = append(records, r), append(seconds, s)
		}
	}
	slices.Sort(took)
	slices.Sort(records)
	slices.Sort(seconds)
	return seenAfter{
		len(took), took[len(took)/2].Round(100 * time.Microsecond), took[len(took)*99/100].Round(100 * time.Microsecond),
		records[len(records)/2], records[len(records)-1], seconds[len(seconds)/2], seconds[len(seconds)-1],
	}
}

// lag gives how many live records are not applied yet, and for how long the oldest waits, in seconds.
func (w *world) lag(url string) (records int64, seconds float64) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url+"/v1/lag", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var out struct{ Items []admin.Partition }
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range out.Items {
		records, seconds = records+p.Records, max(seconds, p.Seconds)
	}
	return records, seconds
}
