package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/invalidation/lane"
)

// sse is one server-sent event.
type sse struct{ id, event, data string }

// staleClient follows the stream of invalidations.
type staleClient struct {
	t    *testing.T
	in   *bufio.Scanner
	last string
	end  func()
}

func (r *rig) followStale(t *testing.T, lastID string) *staleClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	req, err := http.NewRequestWithContext(ctx, "GET", r.http.URL+"/v1/invalidations", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.tokens["follower"])
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultTransport.RoundTrip(req) //nolint:bodyclose // end closes it
	must(t, err)
	c := &staleClient{t: t, in: bufio.NewScanner(res.Body), last: lastID, end: func() { cancel(); res.Body.Close() }}
	t.Cleanup(c.end)
	if res.StatusCode != 200 {
		t.Fatalf("stream is refused with %d", res.StatusCode)
	}
	return c
}

// next returns the next event that is wanted: with proofs, or without.
func (c *staleClient) next(proofs bool) (e sse, s api.Stale) {
	c.t.Helper()
	for c.in.Scan() {
		text := c.in.Text()
		if v, ok := strings.CutPrefix(text, "id: "); ok {
			e.id = v
		} else if v, ok := strings.CutPrefix(text, "event: "); ok {
			e.event = v
		} else if v, ok := strings.CutPrefix(text, "data: "); ok {
			e.data = v
		}
		if text != "" || e.event == "" {
			continue
		}
		c.last = e.id
		if (e.event == "proof") == proofs {
			must(c.t, json.Unmarshal([]byte(e.data), &s))
			return e, s
		}
		e = sse{}
	}
	c.t.Fatalf("the stream ended: %v", c.in.Err())
	return e, s
}

// wantStale wants the names in their order, and nothing else.
func (c *staleClient) wantStale(names ...string) {
	c.t.Helper()
	for _, want := range names {
		e, s := c.next(false)
		if e.event != "stale" || len(s.Names) != 1 || s.Names[0].Name != want || s.Names[0].Version != 7 || len(s.Tags) != 1 {
			c.t.Fatalf("got %+v, want %s to be stale", e, want)
		}
	}
}

func (c *staleClient) wantFlush(n int) {
	c.t.Helper()
	lanes := map[int]bool{}
	for range n {
		e, s := c.next(false)
		if lanes[s.Lane] = true; e.event != "flush" {
			c.t.Fatalf("got %+v, want a flush", e)
		}
	}
	if len(lanes) != n {
		c.t.Fatalf("flushed lanes %v, want %d", lanes, n)
	}
}

// laneWriter emits into the lanes of a rig as a worker does.
type laneWriter struct {
	t     *testing.T
	lanes *lane.Scripts
	roots []string
	next  int64
}

func (r *rig) laneWriter(t *testing.T) *laneWriter {
	t.Helper()
	s, err := lane.New(r.redis.Client(t), lane.Config{Namespace: r.cfg.Namespace, Lanes: r.cfg.Lanes})
	must(t, err)
	w := &laneWriter{t: t, lanes: s, roots: make([]string, s.Lanes())}
	for n := range s.Lanes() {
		w.root(n)
	}
	return w
}

func (w *laneWriter) root(n int) {
	w.t.Helper()
	got, err := w.lanes.Root(w.t.Context(), n, lane.RootRequest{Expected: w.roots[n]})
	must(w.t, err)
	w.roots[n] = got.Root
}

func (w *laneWriter) emit(names ...string) {
	w.t.Helper()
	for _, name := range names {
		n := w.lanes.Of(name)
		got, err := w.lanes.Emit(w.t.Context(), n, w.roots[n], w.next, lane.Emission{
			Source: fmt.Sprintf("s%d/id/0", w.next), From: w.next, To: w.next, Items: []lane.Item{{Key: name, Version: 7}}, Tags: []string{"t"},
		})
		if w.next++; err != nil || got.Status != lane.OK {
			w.t.Fatalf("emit: %+v, %v", got, err)
		}
	}
}

// ofLane returns n names that all belong to one lane.
func (w *laneWriter) ofLane(lane, n int) (out []string) {
	for i := 0; len(out) < n; i++ {
		if name := fmt.Sprintf("item:%d", i); w.lanes.Of(name) == lane {
			out = append(out, name)
		}
	}
	return out
}

func TestInvalidationsAreFollowedWithoutGaps(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Lanes = 2 })
	w := r.laneWriter(t)
	zero, one := w.ofLane(0, 6), w.ofLane(1, 3)
	c := r.followStale(t, "")
	c.wantFlush(2)
	w.emit(zero[0], zero[1])
	c.wantStale(zero[0], zero[1])
	w.emit(one[0])
	c.wantStale(one[0])
	_, _ = c.next(true)
	c.end()

	// What came meanwhile follows, in both lanes, once.
	w.emit(zero[2], zero[3])
	c = r.followStale(t, c.last)
	c.wantStale(zero[2], zero[3])
	w.emit(one[1])
	c.wantStale(one[1])
	c.end()

	// A lane whose history is gone is flushed, the other continues.
	w.emit(zero[4], zero[5], one[2])
	rdb := r.redis.Client(t)
	must(t, rdb.XTrimMaxLen(t.Context(), w.lanes.Keys(0).Stream, 1).Err())
	c = r.followStale(t, c.last)
	got := map[string]int{}
	for range 2 {
		e, s := c.next(false)
		got[fmt.Sprint(e.event, s.Lane)]++
	}
	if got["flush0"] != 1 || got["stale1"] != 1 {
		t.Errorf("after trimming lane 0: %v", got)
	}

	// So is one that was flushed by a worker, and one that is lost and made again.
	w.root(0)
	c.wantFlush(1)
	k := w.lanes.Keys(1)
	must(t, rdb.Del(t.Context(), k.Meta, k.Stream).Err())
	c.wantFlush(1)
	w.roots[1] = ""
	w.root(1)
	c.wantFlush(1)
	w.emit(one[0])
	c.wantStale(one[0])
	e, _ := c.next(true)
	var proof api.StaleProof
	must(t, json.Unmarshal([]byte(e.data), &proof))
	if proof.Age < 0 || proof.Age > 15 {
		t.Errorf("proof: %s", e.data)
	}
	c.end()

	for _, id := range []string{"nonsense", "1-1", "1-1,1-1,1-1", "-,x"} {
		c := r.followStale(t, id)
		c.wantFlush(2)
		c.end()
	}
}

// countCalls counts the scripts that a client runs.
type countCalls struct{ n atomic.Int64 }

func (c *countCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *countCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *countCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Streams share the reads of the lanes; each of them receives everything, also one that begins later.
func TestStreamsShareTheLooks(t *testing.T) {
	const streams = 20
	var calls countCalls
	r := newRig(t, func(c *admin.Config) {
		c.Lanes = 2
		c.Redis.AddHook(&calls)
	})
	w := r.laneWriter(t)
	names := w.ofLane(0, 30)
	var all []*staleClient
	for range streams {
		c := r.followStale(t, "")
		c.wantFlush(2)
		all = append(all, c)
	}
	began := time.Now()
	before := calls.n.Load()
	for i, name := range names {
		w.emit(name)
		if i == len(names)/2 {
			late := r.followStale(t, all[0].last) // it has been told nothing yet
			late.wantStale(names[:i+1]...)
			all = append(all, late)
		}
	}
	for i, c := range all {
		if i == streams {
			c.wantStale(names[len(names)/2+1:]...)
		} else {
			c.wantStale(names...)
		}
		c.next(true)
	}
	// Two lanes are looked at every 200 ms, whatever the number of streams; twice that leaves room for what is slow.
	if looks, most := calls.n.Load()-before, 2*2*(int64(time.Since(began)/(200*time.Millisecond))+2); looks > most {
		t.Errorf("%d streams cost %d looks in %s, more than %d", len(all), looks, time.Since(began), most)
	}
	for _, c := range all {
		c.end()
	}
	again := r.followStale(t, "") // a new run begins when all are gone
	again.wantFlush(2)
	w.emit(names[0])
	again.wantStale(names[0])
	again.end()
}
