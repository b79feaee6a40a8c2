package pulse_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/pulse"
)

// look is one in which all is well, some time after a start.
func look(after time.Duration) *pulse.Look {
	return &pulse.Look{
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(after), Datasets: 1, Cached: map[string]bool{"orders": true}, Known: pulse.Known{Lag: true, Nodes: true, Workers: true, Lanes: true, Census: true}, Lanes: []uint64{7},
		Workers: []api.WorkerState{{Owner: "w1", Alive: true}},
	}
}

// overview returns what a sampler answers that was given these looks; the last answers.
func overview(t *testing.T, looks ...*pulse.Look) api.Overview {
	t.Helper()
	s := pulse.New(func(context.Context) (*pulse.Look, error) { return nil, errors.New("no look is needed") })
	for _, l := range looks {
		s.Seen(l)
		s.Add(l)
	}
	return s.Overview(t.Context(), time.Time{})
}

// However long it runs, samples of 15 minutes are kept.
func TestSamplesAreBounded(t *testing.T) {
	var looks []*pulse.Look
	for i := range 1000 {
		looks = append(looks, look(time.Duration(i)*pulse.Every))
	}
	o := overview(t, looks...)
	if n := len(o.Samples); n != int(pulse.Kept/pulse.Every) || !o.Samples[n-1].At.Equal(looks[999].At) {
		t.Errorf("%d samples", n)
	}
}

// What is not known is absent, in the JSON too: neither zero nor the value before it.
func TestWhatIsNotKnownIsAGap(t *testing.T) {
	away := look(5 * time.Second)
	away.Known, away.Sick = pulse.Known{}, []string{"MySQL"}
	o := overview(t, look(0), away)
	b, err := json.Marshal(o.Samples[1])
	if err != nil {
		t.Fatal(err)
	}
	if text := string(b); text != `{"at":"2026-01-02T03:04:10Z"}` {
		t.Errorf("sample %s", text)
	}
	if b, _ = json.Marshal(o.Counts); string(b) != `{"datasets":1}` {
		t.Errorf("counts %s", b)
	}
	if o.Health.Code != "server_away" || o.Health.Sentence != "MySQL does not answer" || o.Health.Level != api.LevelBad {
		t.Errorf("health %+v", o.Health)
	}
}

func node(id string, entries, items int64, delay float64) api.Node {
	return api.Node{
		ID: id, Lanes: []api.NodeLane{{Live: true, Fresh: true, Entries: entries, Items: items, Delay: delay, Position: "7-1"}},
		Caches: []api.NodeCache{{LocalHits: 9 * entries, Loads: entries, Dropped: items}},
	}
}

// Freshness is the slowest node's, of nodes that changed something since the last sample and serve.
func TestFreshnessIsOfTheSlowestNode(t *testing.T) {
	var looks []*pulse.Look
	for i, delay := range []float64{0, 0.1, 0.2, 0.3} {
		l := look(time.Duration(i) * pulse.Every)
		silent := node("silent", int64(i)*10, 0, 99)
		silent.Silence = 8
		suspect := node("suspect", int64(i)*10, 0, 98)
		suspect.Lanes[0].Fresh, suspect.Suspect = false, true
		l.Nodes = []api.Node{node("fast", int64(i)*10, int64(i)*20, delay/10), node("slow", int64(i)*10, int64(i)*20, delay), node("idle", 5, 5, 97), silent, suspect}
		looks = append(looks, l)
	}
	o := overview(t, looks...)
	if f := o.Fresh; f.Now == nil || *f.Now != 0.3 || *f.P50 != 0.2 || *f.P99 != 0.3 || f.Node != "slow" {
		t.Errorf("freshness %+v", f)
	}
	if o.Samples[0].Freshness != nil {
		t.Error("the first sample cannot know what changed")
	}
	r := o.Rates // three of the five were at work, 5 s apart
	if *r.Invalidations != 4 || *r.HitRatio != 0.9 || *r.Evictions != 8 {
		t.Errorf("invalidations %v, hit ratio %v, evictions %v", *r.Invalidations, *r.HitRatio, *r.Evictions)
	}
	quiet := *looks[3]
	quiet.At = quiet.At.Add(pulse.Every)
	if o = overview(t, append(looks, &quiet)...); o.Samples[4].Freshness != nil {
		t.Error("nothing changed, and the sample has a freshness")
	}
	waits := quiet
	waits.Lag = []api.Partition{{Dataset: "orders", Records: 3, Seconds: 41}, {Dataset: "uncached", Seconds: 90}}
	if o = overview(t, append(looks, &waits)...); *o.Fresh.Now != 41 {
		t.Errorf("records wait for 41 s, and the freshness is %v", *o.Fresh.Now)
	}
	// A worker commits offsets each second: what seems to wait that long was applied, and its age is none of the freshness.
	looks[3].Lag = []api.Partition{{Dataset: "orders", Records: 3, Seconds: 0.9, Position: 5, Committed: 2, Waits: &api.Wait{Code: "busy"}}}
	if o = overview(t, looks...); *o.Fresh.Now != 0.3 || *o.Path[1].Delay != 0 || *o.Path[2].Backlog != 0 {
		t.Errorf("with offsets that are not committed yet: freshness %v, waits %v s, %d not emitted", *o.Fresh.Now, *o.Path[1].Delay, *o.Path[2].Backlog)
	}
}

// A topic that begins again, a lane that is lost and a node that is restarted make no negative rate.
func TestRatesOfWhatBeginsAgain(t *testing.T) {
	old, now := look(0), look(pulse.Every)
	old.Lag = []api.Partition{{Topic: "a", End: 1000, Committed: 900, Position: 950}, {Topic: "b", End: 10, Position: 5, Committed: -1}}
	now.Lag = []api.Partition{{Topic: "a", End: 5, Committed: 2, Position: -1}, {Topic: "b", End: 20, Position: 20, Committed: -1}, {Topic: "new", End: 500, Position: 500}}
	old.Lanes, now.Lanes = []uint64{900, 1}, []uint64{3, 11}
	a, b := node("n", 1000, 1000, 0), node("n", 1, 1, 0)
	b.Began = time.Now()
	old.Nodes, now.Nodes = []api.Node{a}, []api.Node{b}
	r := overview(t, old, now).Rates
	if *r.Published != 2 || *r.Applied != 3 || *r.Emitted != 2 || r.Invalidations != nil {
		t.Errorf("%v published, %v applied, %v emitted, %v invalidations", *r.Published, *r.Applied, *r.Emitted, r.Invalidations)
	}
}

// Each cause has its sentence, with the place and the owner.
func TestSentences(t *testing.T) {
	worker := func(change func(*api.WorkerState)) *api.WorkerState {
		w := &api.WorkerState{Owner: "w3", Alive: true}
		if change != nil {
			change(w)
		}
		return w
	}
	pause := &api.Pause{Who: "ada", Why: "a rebuild"}
	for name, c := range map[string]struct {
		p      api.Partition
		pause  *api.Pause
		worker *api.WorkerState
		level  string
		want   string
	}{
		"server": {
			api.Partition{Records: 5, Seconds: 41},
			nil,
			worker(func(w *api.WorkerState) {
				w.NotReady = []string{"waiting since 2026-01-02T03:04:05Z for redis: emit: dial tcp: refused"}
			}),
			api.LevelBad, "1 partition of orders is 41 s behind: worker w3 waits for Redis, emit: dial tcp: refused",
		},
		"busy":      {api.Partition{Records: 5, Seconds: 6}, nil, worker(nil), api.LevelWarn, "1 partition of orders is 6.0 s behind: worker w3 is applying 5 records"},
		"not yet":   {api.Partition{Records: 5, Seconds: 1}, nil, worker(nil), api.LevelOK, "Everything is up to date; no node received a change in the last minutes"},
		"no worker": {api.Partition{Records: 5, Seconds: 1}, nil, nil, api.LevelBad, "1 partition of orders is 1.0 s behind: no worker has it"},
		"silent": {
			api.Partition{Records: 5, Seconds: 8},
			nil, worker(func(w *api.WorkerState) { w.Seconds = 9 }),
			api.LevelWarn, "1 partition of orders is 8.0 s behind: worker w3 reports nothing",
		},
		"stopped": {
			api.Partition{Records: 5, Seconds: 8},
			nil,
			worker(func(w *api.WorkerState) {
				w.Partitions = []api.WorkerPartition{{Topic: "shop.orders", Stopped: true, Error: "records are gone"}}
			}),
			api.LevelBad, "partition 0 of orders is stopped, records are gone",
		},
		"refused": {
			api.Partition{Records: 5, Seconds: 8},
			nil, worker(func(w *api.WorkerState) {
				w.Degraded = []string{"dataset orders is paused: mysql error 1054: a column is missing"}
			}),
			api.LevelBad, "1 partition of orders is 8.0 s behind: the table refuses rows, mysql error 1054: a column is missing",
		},
		"paused": {
			api.Partition{Records: 5, Seconds: 8},
			pause, worker(nil), api.LevelWarn,
			"dataset orders is paused by ada: a rebuild; 5 records wait, the oldest for 8.0 s",
		},
		"transaction": {
			api.Partition{Held: 5, Transaction: &api.Transaction{ProducerID: 4}},
			nil, worker(nil), api.LevelWarn,
			"1 partition of orders waits: an open transaction of another producer comes first",
		},
		"topic": {api.Partition{Partition: -1, Error: "no leader"}, nil, nil, api.LevelBad, "topic shop.orders of dataset orders cannot be read: no leader"},
	} {
		c.p.Dataset, c.p.Topic = "orders", "shop.orders"
		if c.worker != nil {
			c.p.Owner, c.p.Alive = c.worker.Owner, true
		}
		c.p.Waits = pulse.WaitOf(&c.p, c.pause, c.worker)
		l := look(0)
		l.Lag = []api.Partition{c.p}
		if c.pause != nil {
			l.Pauses = map[string]api.Pause{"orders": *c.pause}
		}
		h := overview(t, l).Health
		if h.Sentence != c.want || h.Level != c.level {
			t.Errorf("%s: %s: %q, want %s: %q", name, h.Level, h.Sentence, c.level, c.want)
		}
	}
}

// Worse problems come first, and partitions with one cause are one problem.
func TestProblemsAreSorted(t *testing.T) {
	l := look(0)
	l.Letters = 3
	for i := range 30 {
		p := api.Partition{Dataset: "orders", Topic: "t", Partition: int32(i), Records: 2, Seconds: float64(i), Owner: "gone"}
		p.Waits = pulse.WaitOf(&p, nil, nil)
		l.Lag = append(l.Lag, p)
	}
	l.Lost = []pulse.Lost{{ID: "n1", Seen: l.At.Add(-time.Minute)}, {ID: "n2", Seen: l.At.Add(-time.Second)}}
	o := overview(t, l)
	var codes []string
	for _, p := range o.Problems {
		codes = append(codes, p.Code)
	}
	if want := []string{"partitions_behind", "nodes_silent", "dead_letters"}; !slices.Equal(codes, want) {
		t.Fatalf("problems %v, want %v", codes, want)
	}
	if a := o.Health.Args; a.Count != 30 || a.Records != 60 || *a.Seconds != 29 || len(a.Partitions) != 20 {
		t.Errorf("%+v", a)
	}
	if s := o.Problems[1].Sentence; !strings.HasPrefix(s, "2 nodes (n1 …) have reported nothing for 60 s") {
		t.Error(s)
	}
	if *o.Counts.SilentNodes != 2 {
		t.Errorf("%+v", o.Counts)
	}
}
