package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// replaySize returns how many past events are replayed and how many live ones come a second meanwhile.
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

// patient returns a world as much time as so many past events take at a thousand a second.
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
	with, without := &fared{prefix: "with"}, &fared{prefix: "without"}
	w.fare(p, n, url, without)
	job := ask[api.Replay](w, url, 0, "replay", "start", "items", "--apply", "--rate", strconv.Itoa(max(past/10, 4000)))
	began, idle := time.Now(), time.Duration(0)
	// By turns, since others use the machine too, and more at one time than at another.
	for ask[api.Replay](w, url, 0, "replay", "status", job.ID).State == "running" {
		w.fare(p, n, url, with)
		idle += w.whilePaused(url, job.ID, func() { w.fare(p, n, url, without) })
	}
	took := time.Since(began) - idle
	done := ask[api.Replay](w, url, 0, "replay", "status", job.ID)
	t.Logf("%d events replayed in %.1f s, %.0f/s, beside %v live events/s, for %d past ones", done.Total.Events, took.Seconds(), float64(done.Total.Events)/took.Seconds(), live, past)
	t.Logf("without the replay: %v", without)
	t.Logf("beside the replay:  %v (p99 %.2f times)", with, float64(with.p(99))/float64(without.p(99)))
	if done.State != "done" || int(done.Total.Events) < past {
		t.Errorf("replay: %s, %+v", done.State, done.Total)
	}
	// A rise on the shared machine of ordinary runs proves nothing.
	if os.Getenv("FRESHET_TEST_REPLAY") != "" && with.p(99) > 2*without.p(99)+100*time.Millisecond {
		t.Errorf("live events were seen after %v at p99, %v without the replay", with.p(99), without.p(99))
	}
	stop()
	traffic.Wait()
	w.reaches(past/perKey, "SELECT COUNT(*) FROM items WHERE id LIKE 'p%' AND _version = 4 AND n = 4")
}

// whilePaused runs fn while a replay is paused and no process runs it, and returns how long that was; nothing if it is over.
func (w *world) whilePaused(url, id string, fn func()) time.Duration {
	w.t.Helper()
	began := time.Now()
	if _, _, code := w.run("", "replay", "pause", id, "--client-url", url); code != 0 {
		return 0
	}
	var still api.Replay
	testenv.Eventually(w.t, settleLimit, func(context.Context) error {
		if still = ask[api.Replay](w, url, 0, "replay", "status", id); still.Owner != "" {
			return fmt.Errorf("%s still runs it", still.Owner)
		}
		return nil
	})
	fn()
	ask[api.Replay](w, url, 0, "replay", "resume", id)
	testenv.Eventually(w.t, settleLimit, func(context.Context) error {
		if got := ask[api.Replay](w, url, 0, "replay", "status", id); got.State == "running" && got.Total.Events == still.Total.Events {
			return errors.New("it does not continue yet")
		}
		return nil
	})
	return time.Since(began)
}

// fared is how live events fare: from publishing to being visible at a node, and how many are not applied yet.
type fared struct {
	prefix  string // of the keys
	took    []time.Duration
	records []int64
	seconds []float64 // that the oldest record waits
}

// p returns a percentile of publish to visible.
func (f *fared) p(percent int) time.Duration {
	return at(f.took, percent).Round(100 * time.Microsecond)
}

func at[T cmp.Ordered](values []T, percent int) T {
	s := slices.Sorted(slices.Values(values))
	return s[(len(s)-1)*percent/100]
}

func (f *fared) String() string {
	return fmt.Sprintf("%d events, publish to visible at a node p50 %v, p99 %v; lag of %d looks p50 %d records and %.2f s, p99 %d and %.2f s", len(f.took), f.p(50), f.p(99),
		len(f.records), at(f.records, 50), at(f.seconds, 50), at(f.records, 99), at(f.seconds, 99))
}

// fare publishes one event after the other and waits until the node has it: 200 of them.
func (w *world) fare(p *producer.Producer, n *node, url string, f *fared) {
	w.t.Helper()
	for i := range 200 {
		began := time.Now()
		tok := publish(w.t, p, upsert("items", f.prefix+strconv.Itoa(i%10), int64(len(f.took)+1), "b"))
		w.seen(n.Node, tok)
		f.took = append(f.took, time.Since(began))
		if i%10 == 0 {
			r, s := w.lag(url)
			f.records, f.seconds = append(f.records, r), append(f.seconds, s)
		}
	}
}

// lag returns how many live records are not applied yet, and for how long the oldest waits, in seconds.
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
	var out struct{ Items []api.Partition }
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range out.Items {
		records, seconds = records+p.Records, max(seconds, p.Seconds)
	}
	return records, seconds
}
