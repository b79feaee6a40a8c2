package invalidation_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

var _ worker.Emitter = (*invalidation.Emitter)(nil)

// newEmitter returns an Emitter that is closed when the test ends.
func newEmitter(t testing.TB, rdb redis.UniversalClient, cfg invalidation.EmitterConfig) *invalidation.Emitter {
	t.Helper()
	e, err := invalidation.NewEmitter(rdb, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := e.Close(); err != nil {
				t.Errorf("close emitter: %v", err)
			}
		}
	})
	return e
}

// newRoot creates lane 0.
func newRoot(t testing.TB, e *invalidation.Emitter) string {
	t.Helper()
	r, err := e.Root(t.Context(), 0, lane.RootRequest{})
	if err != nil || r.Status != lane.OK {
		t.Fatal(r, err)
	}
	return r.Root
}

// waitLimit is for hangs only.
const waitLimit = 30 * time.Second

func emission(from, to int64, keys, tags int) lane.Emission {
	e := lane.Emission{Source: "users/id/0", From: from, To: to}
	for i := range keys {
		e.Items = append(e.Items, lane.Item{Key: "user:" + strconv.Itoa(i), Version: to + 1})
	}
	for i := range tags {
		e.Tags = append(e.Tags, "tag:"+strconv.Itoa(i))
	}
	return e
}

// entries reads the whole lane.
func entries(t testing.TB, rdb *redis.Client, ns string) (ids []string, out []lane.Payload) {
	t.Helper()
	got, err := rdb.XRange(t.Context(), lane.KeysOf(ns, 0).Stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		p, err := lane.ParsePayload(m.Values["m"].(string))
		if err != nil {
			t.Fatal(err)
		}
		ids, out = append(ids, m.ID), append(out, p)
	}
	return ids, out
}

// Each entry carries the traces of the changes that it makes known, and of no others.
func TestEntriesCarryTheirTraces(t *testing.T) {
	srv := testenv.Redis(t)
	rdb, ns := srv.Client(t), srv.Namespace(t)
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
	root := newRoot(t, e)
	em := emission(10, 19, 250, 1)
	for key, parent := range map[string]string{"user:0": "first", "user:150": "second", "user:249": "third", "user:250": "of another lane", "": "by the tag"} {
		em.Traces = append(em.Traces, lane.Trace{Parent: parent, Key: key})
	}
	for range lane.MaxTraces + 5 {
		em.Traces = append(em.Traces, lane.Trace{Parent: "many", Key: "user:249"})
	}
	if r, err := e.Emit(t.Context(), 0, root, 10, em); err != nil || r.Status != lane.OK {
		t.Fatal(r, err)
	}
	_, got := entries(t, rdb, ns)
	var traces []string
	for _, p := range got[1:] { // the first is the root
		slices.Sort(p.Traces)
		traces = append(traces, strings.Join(p.Traces, ","))
	}
	want := []string{"by the tag,first", "second", strings.Repeat("many,", lane.MaxTraces-1) + "third"}
	if d := cmp.Diff(want, traces); d != "" {
		t.Errorf("traces of the entries (-want +got):\n%s", d)
	}
}

func TestEmitSplits(t *testing.T) {
	srv := testenv.Redis(t)
	rdb := srv.Client(t)
	type part struct {
		To         int64
		Keys, Tags int
	}
	for name, c := range map[string]struct {
		keys, tags int
		want       []part
	}{
		"nothing":       {0, 0, nil},
		"one":           {1, 0, []part{{19, 1, 0}}},
		"just full":     {100, 100, []part{{19, 100, 100}}},
		"one too many":  {101, 0, []part{{9, 100, 0}, {19, 1, 0}}},
		"many keys":     {250, 3, []part{{9, 100, 3}, {9, 100, 0}, {19, 50, 0}}},
		"many tags":     {1, 230, []part{{9, 1, 100}, {9, 0, 100}, {19, 0, 30}}},
		"exactly three": {300, 0, []part{{9, 100, 0}, {9, 100, 0}, {19, 100, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			ns := srv.Namespace(t)
			e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
			root := newRoot(t, e)
			em := emission(10, 19, c.keys, c.tags)
			r, err := e.Emit(t.Context(), 0, root, 10, em)
			ids, got := entries(t, rdb, ns)
			if err != nil || r.Status != lane.OK || r.ID != ids[len(ids)-1] {
				t.Fatal(r, err)
			}
			var parts []part
			var all lane.Emission
			for _, p := range got[1:] {
				parts = append(parts, part{p.To, len(p.Items), len(p.Tags)})
				all.Items, all.Tags = append(all.Items, p.Items...), append(all.Tags, p.Tags...)
			}
			if d := cmp.Diff(c.want, parts); d != "" {
				t.Error(d)
			}
			if !cmp.Equal(em.Items, all.Items) || !cmp.Equal(em.Tags, all.Tags) {
				t.Error("the parts are not the whole")
			}
			st, err := e.State(t.Context(), 0, []string{em.Source}, nil)
			if err != nil || st.Watermarks[em.Source] != 19 {
				t.Errorf("state %+v, %v", st, err)
			}
		})
	}
}

// TestSplitStops: when a part finds that the lane is another one, the rest is not sent and the watermark stays.
func TestSplitStops(t *testing.T) {
	srv := testenv.Redis(t)
	rdb, ns := srv.Client(t), srv.Namespace(t)
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
	root := newRoot(t, e)
	if r, err := e.Emit(t.Context(), 0, "1"+root, 0, emission(0, 9, 150, 0)); err != nil || r.Status != lane.RootChanged || r.Root != root {
		t.Errorf("wrong root: %+v, %v", r, err)
	}
	if r, err := e.Emit(t.Context(), 0, root, 0, emission(5, 9, 150, 0)); err != nil || r.Status != lane.Regressed || r.Next != 0 {
		t.Errorf("gap: %+v, %v", r, err)
	}
	if ids, _ := entries(t, rdb, ns); len(ids) != 1 {
		t.Errorf("%d entries", len(ids))
	}
	if s := e.Stats(); s.RootChanged != 1 || s.Regressed != 1 || s.Items != 0 || s.Scripts != 2 || s.Roots != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestEmittersRace: two owners of a partition, one of them a zombie, emit the same ranges at once. Nothing is lost: the
// watermark is whole, the stream counts without a hole, and every floor is the newest version.
func TestEmittersRace(t *testing.T) {
	srv := testenv.Redis(t)
	rdb, ns := srv.Client(t), srv.Namespace(t)
	const batches, keys = 60, 30
	first := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
	root := newRoot(t, first)
	var wg sync.WaitGroup
	for range 2 {
		e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
		wg.Go(func() {
			for i := range int64(batches) {
				if r, err := e.Emit(t.Context(), 0, root, 0, emission(i*10, i*10+9, keys, 1)); err != nil || r.Status != lane.OK {
					t.Errorf("batch %d: %+v, %v", i, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	st, err := first.State(t.Context(), 0, []string{"users/id/0"}, nil)
	if err != nil || st.Watermarks["users/id/0"] != batches*10-1 {
		t.Errorf("state %+v, %v", st, err)
	}
	ids, _ := entries(t, rdb, ns)
	seen := map[string]bool{}
	for i, id := range ids {
		seq, _, _ := lane.SplitID(id)
		if seq != uint64(i+1) || seen[id] {
			t.Fatalf("entry %d has ID %s", i, id)
		}
		seen[id] = true
	}
	if len(ids) != 2*batches+1 || ids[len(ids)-1] != st.Last {
		t.Errorf("%d entries, last %s", len(ids), st.Last)
	}
	s, err := lane.New(rdb, lane.Config{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if g, err := s.Get(t.Context(), "user:"+strconv.Itoa(i), "t"); err != nil || g.Floor != batches*10 {
			t.Fatalf("floor %+v, %v", g, err)
		}
	}
}

// TestEmitTwice: the same call again, as after a lost answer, changes nothing that readers see.
func TestEmitTwice(t *testing.T) {
	srv := testenv.Redis(t)
	rdb, ns := srv.Client(t), srv.Namespace(t)
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: ns})
	root := newRoot(t, e)
	s, err := lane.New(rdb, lane.Config{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	em := emission(0, 9, 1, 0)
	for i := range 3 {
		if r, err := e.Emit(t.Context(), 0, root, 0, em); err != nil || r.Status != lane.OK {
			t.Fatal(r, err)
		}
		if i == 0 { // a reader fills between the two
			fillNow(t, s, em.Items[0].Key, em.Items[0].Version)
			em.Keep = true
			continue
		}
		if g, err := s.Get(t.Context(), em.Items[0].Key, "other"); err != nil || g.Status != lane.GetHit {
			t.Fatalf("after emit %d: %+v, %v", i, g, err)
		}
	}
}

func fillNow(t *testing.T, s *lane.Scripts, key string, version int64) {
	t.Helper()
	if g, err := s.Get(t.Context(), key, "token"); err != nil || g.Status != lane.GetLease {
		t.Fatal(g, err)
	}
	if f, err := s.Fill(t.Context(), lane.FillRequest{Key: key, Token: "token", Version: version, Value: []byte("x")}); err != nil || f != lane.FillOK {
		t.Fatal(f, err)
	}
}

func TestEmitterOnMiniredis(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "mini", SkipServerCheck: true})
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	root := newRoot(t, e)
	if r, err := e.Emit(t.Context(), 0, root, 0, emission(0, 9, 150, 2)); err != nil || r.Status != lane.OK {
		t.Fatal(r, err)
	}
}

// TestEmitterOutage: a stopped Redis is an error within the emitter's time, and after it the same call works.
func TestEmitterOutage(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{Appendfsync: "always"})
	e := newEmitter(t, srv.Client(t), invalidation.EmitterConfig{Namespace: "outage"})
	root := newRoot(t, e)
	srv.Kill(t)
	if r, err := e.Emit(t.Context(), 0, root, 0, emission(0, 9, 3, 0)); err == nil {
		t.Fatalf("emit without Redis: %+v", r)
	}
	srv.Restart(t)
	testenv.Eventually(t, waitLimit, func(ctx context.Context) error {
		r, err := e.Emit(ctx, 0, root, 0, emission(0, 9, 3, 0))
		if err == nil && r.Status != lane.OK {
			return fmt.Errorf("status %d", r.Status)
		}
		return err
	})
	if s := e.Stats(); s.Errors == 0 || s.Items != 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestEmitterCallsOutOfRange(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	e := newEmitter(t, rdb, invalidation.EmitterConfig{Namespace: "n"})
	for _, n := range []int{-1, 1} {
		_, err1 := e.Emit(t.Context(), n, "1", 0, emission(0, 0, 1, 0))
		_, err2 := e.Root(t.Context(), n, lane.RootRequest{})
		_, err3 := e.State(t.Context(), n, nil, nil)
		if err1 == nil || err2 == nil || err3 == nil {
			t.Errorf("lane %d was accepted: %v %v %v", n, err1, err2, err3)
		}
	}
}
