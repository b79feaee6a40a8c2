package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

type finding struct {
	Name, Where, Problem, Fix string
	Bad                       bool
}

// doctor runs freshet doctor; its exit code must agree with what it found.
func (w *world) doctor(args ...string) []finding {
	w.t.Helper()
	stdout, stderr, code := w.run("", append([]string{"doctor", "--json"}, args...)...)
	var out struct {
		Healthy  bool
		Findings []finding
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		w.t.Fatalf("doctor: %v, exit code %d\n%s%s", err, code, stdout, stderr)
	}
	if out.Healthy != (code == 0) {
		w.t.Errorf("doctor: healthy %t with exit code %d", out.Healthy, code)
	}
	for _, f := range out.Findings {
		if f.Problem == "" || f.Fix == "" {
			w.t.Errorf("finding without problem or fix: %+v", f)
		}
	}
	return out.Findings
}

func has(all []finding, name string) bool {
	return slices.ContainsFunc(all, func(f finding) bool { return f.Name == name })
}

// Each misconfiguration is made, found by its name, and fixed again.
func TestDoctorFindsWhatIsWrong(t *testing.T) {
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	ks := testenv.Kafka(t)
	topic := ks.Topic(t)
	w := newWorld(t, rs, map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, topic)})
	t.Cleanup(func() { ks.DeleteTopic(t, schemas.InvalidationTopic(w.ns)) })
	if got := w.doctor(); !has(got, "no-worker") || !has(got, "lane-missing") {
		t.Fatalf("without a worker: %+v", got)
	}
	worker := w.startWorker()
	w.node("n1")
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		got := w.doctor()
		if !has(got, "canary") || has(got, "no-node") || slices.ContainsFunc(got, func(f finding) bool { return f.Bad }) {
			return fmt.Errorf("of a sound system: %+v", got)
		}
		return nil
	})
	rdb := rs.Client(t)
	meta := "{fr:" + w.ns + ":0}:meta"
	redisSet := func(name, value string) func() {
		return func() {
			if err := rdb.ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	sqlDo := func(text string) func() { return func() { w.exec(text) } }
	for _, tc := range []struct {
		name      string
		args      []string
		make, fix func()
	}{
		{name: "redis-unfit", make: redisSet("maxmemory-policy", "allkeys-lru"), fix: redisSet("maxmemory-policy", "noeviction")},
		{name: "table-differs", make: sqlDo("ALTER TABLE items RENAME COLUMN body TO bdy"), fix: sqlDo("ALTER TABLE items RENAME COLUMN bdy TO body")},
		{name: "cache-differs", make: sqlDo("UPDATE freshet_meta SET value = CONCAT('x', value) WHERE name = 'dataset:items'"), fix: sqlDo("UPDATE freshet_meta SET value = SUBSTR(value, 2) WHERE name = 'dataset:items'")},
		{name: "mysql-migrations", make: sqlDo("DELETE FROM freshet_migrations WHERE version_id = 8"), fix: sqlDo("INSERT INTO freshet_migrations (version_id, is_applied) VALUES (8, 1)")},
		{name: "dataset-paused", make: sqlDo(`INSERT INTO freshet_meta (name, value) VALUES ('pause:items', '{"who":"ada","why":"a test"}')`), fix: sqlDo("DELETE FROM freshet_meta WHERE name = 'pause:items'")},
		{name: "foreign-group", make: sqlDo("INSERT INTO freshet_position (source, grp, owner) VALUES ('other/x/0', 'other', '')"), fix: sqlDo("DELETE FROM freshet_position WHERE grp = 'other'")},
		{name: "foreign-namespace", args: []string{"--namespace", "another"}},
		{name: "lane-group", args: []string{"--kafka-group", "another"}},
		{name: "lane-count", args: []string{"--lanes", "2"}},
		{name: "kafka-unreachable", args: []string{"--kafka-brokers", "127.0.0.1:1"}},
		{name: "lane-cache-differs", make: func() { worker.Stop(t); rdb.HSet(t.Context(), meta, "d:items", "other") }, fix: func() { rdb.HDel(t.Context(), meta, "d:items"); worker.Cont(t) }}, // it would repair that
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.make != nil {
				tc.make()
			}
			if got := w.doctor(append(tc.args, "--no-canary")...); !has(got, tc.name) {
				t.Errorf("not found: %+v", got)
			}
			if tc.fix != nil {
				tc.fix()
			}
		})
	}
	w.findsNodesThatDoNotCache(topic)
	worker.Kill(t)
	ks.DeleteTopic(t, topic)
	if got := w.doctor("--no-canary"); !has(got, "topic-missing") {
		t.Errorf("a topic that is gone is not found: %+v", got)
	}
	rs.Kill(t)
	if got := w.doctor("--no-canary"); !has(got, "redis-unreachable") {
		t.Errorf("a Redis that is gone is not found: %+v", got)
	}
}

// findsNodesThatDoNotCache: one has another dataset file, the other is in another namespace.
func (w *world) findsNodesThatDoNotCache(topic string) {
	t := w.t
	t.Helper()
	others, err := schemas.LoadDatasets(fstest.MapFS{
		"items.json": {Data: []byte(itemSchema)},
		"items.yaml": {Data: []byte(strings.Replace(fmt.Sprintf(itemDataset, topic), "item:{id}", "thing:{id}", 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	rdb := w.redis.Client(t)
	for _, cfg := range []invalidation.Config{{Namespace: w.ns, Datasets: others, ID: "n2"}, {Namespace: w.ns + "-old", Datasets: w.datasets, ID: "n3", JoinWait: 1}} {
		n, err := invalidation.Join(t.Context(), rdb, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
	}
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if got := w.doctor("--no-canary"); !has(got, "node-not-cached") || !has(got, "node-stray") {
			return fmt.Errorf("not found: %+v", got)
		}
		return nil
	})
}
