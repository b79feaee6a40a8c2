package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

// startTime is how long a worker may wait after its start without being a problem.
const startTime = 10 * time.Second

func (d *doctor) examineMigrations(ctx context.Context) {
	m, err := migrations.New(d.db.SQL(), migrations.Config{NoLock: true})
	if err != nil {
		d.bad("mysql-migrations", "", "use another build", "%v", err)
		return
	}
	steps, err := m.Status(ctx)
	if err != nil {
		d.bad("mysql-grants", "", "grant SELECT on the database", "migrations cannot be read: %v", err)
		return
	}
	var pending []string
	for _, s := range steps {
		if !s.Applied {
			pending = append(pending, s.Name)
		}
	}
	if len(pending) > 0 {
		d.bad("mysql-migrations", "", "run freshet migrate up", "%d migrations did not run yet: %s", len(pending), strings.Join(pending, ", "))
	}
}

func (d *doctor) examineWorkers(ctx context.Context) {
	workers, err := roster.Workers(ctx, d.db.SQL())
	if err != nil {
		return // migrations say why
	}
	alive := 0
	for _, w := range workers {
		if !w.Alive {
			continue
		}
		alive++
		for _, why := range slices.Concat(w.NotReady, w.Degraded) {
			if time.Since(w.Began) < startTime {
				d.note("worker-waits", w.Owner, "it began a moment ago; look again if it stays", "%s", why)
				continue
			}
			d.bad("worker-waits", w.Owner, "follow the text", "%s", why)
		}
		d.examineCopies(w.Consistency)
		d.examineVersions(w)
		for _, p := range w.Partitions {
			if p.Stopped {
				d.bad("partition-stands", fmt.Sprintf("%s/%d", p.Topic, p.Partition), "see /readyz of worker "+w.Owner, "it does not move: %s", p.Error)
			}
		}
	}
	if alive == 0 {
		d.bad("no-worker", "", "start freshet worker or freshet serve", "no worker is alive, so nothing is applied")
	}
	d.examineBinding(ctx)
	d.examinePlaces(ctx)
	counts, err := d.db.Letters.Count(ctx, "")
	if n := counts["open"]; err == nil && n > 0 {
		d.note("dead-letters", "", "look at them with freshet deadletters list", "%d dead letters are open", n)
	}
}

// examineCopies tells what a worker's sampler found.
func (d *doctor) examineCopies(st *report.Stats) {
	if st == nil {
		return
	}
	for _, s := range st.Stale {
		finding := "entry-stale"
		if s.Ahead {
			finding = "entry-ahead"
		}
		d.bad(finding, s.Dataset+" "+s.Key, staleFix(s), "%s", staleText(s))
	}
}

func (d *doctor) examineLanes(ctx context.Context) {
	scripts, err := lane.New(d.rdb, lane.Config{Namespace: d.cfg.Namespace, Lanes: d.cfg.Lanes})
	if err != nil {
		d.bad("lane-settings", d.cfg.Namespace, "correct namespace and lanes", "%v", err)
		return
	}
	var names []string
	want := map[string]string{}
	for _, ds := range d.set.All() {
		if h := ds.CacheHash(); h != "" {
			names = append(names, ds.Name)
			want[ds.Name] = h
		}
	}
	for n := range scripts.Lanes() {
		where := fmt.Sprintf("%s, lane %d", d.cfg.Namespace, n)
		st, err := scripts.State(ctx, n, nil, names)
		switch {
		case err != nil:
			d.bad("lane-unreadable", where, "let the user read keys of the namespace", "%v", err)
			continue
		case !st.Exists:
			d.bad("lane-missing", where, "start a worker: workers make lanes", "the lane does not exist, so nodes cache nothing")
			continue
		case st.Lanes != scripts.Lanes():
			d.bad("lane-count", where, "set lanes to what the namespace was made with, or use another namespace", "it was made for %d lanes, the setting says %d", st.Lanes, scripts.Lanes())
		case st.Group != "" && st.Group != d.cfg.Kafka.Group:
			d.bad("lane-group", where, "use one kafka.group for a namespace, or another namespace", "another consumer group emits into it")
		}
		for name, h := range want {
			if st.Hashes[name] != h {
				d.bad("lane-cache-differs", name, "run freshet migrate datasets and start workers with these declarations", "lane %d has another cache section, so nodes do not cache it", n)
			}
		}
	}
}

func (d *doctor) examineNodes(ctx context.Context) {
	nodes, err := invalidation.Nodes(ctx, d.rdb, d.cfg.Namespace)
	if err != nil {
		return // lanes say why
	}
	if len(nodes) == 0 {
		d.note("no-node", d.cfg.Namespace, "services join with invalidation.Join; nothing to do if none runs", "no node is alive")
	}
	const seeReason = "do what it says; docs/caches.md lists the reasons"
	for _, n := range nodes {
		for _, why := range n.NotReady {
			d.note("node-not-cached", n.ID, seeReason, "%s", why)
		}
	}
	strays, err := invalidation.Strays(ctx, d.rdb, d.cfg.Namespace)
	if err != nil {
		d.note("node-stray", "", "let the Redis user read keys of {fr:*", "nodes of other namespaces cannot be read: %v", err)
	}
	for _, n := range strays {
		d.note("node-stray", n.ID, "if it belongs to this namespace, correct its Config.Namespace", "it is in namespace %s, where a lane is missing", n.Namespace)
	}
}

// sendCanary invalidates a name that no one uses: it goes from Kafka through a worker into a lane and to every node.
func (d *doctor) sendCanary(ctx context.Context) {
	p, err := openPublisher(d.cfg, d.log)
	if err != nil {
		d.bad("canary-publish", "", "correct the producer settings", "%v", err)
		return
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, d.canary)
	defer cancel()
	name := "freshet:canary:" + rand.Text()
	began := time.Now()
	tok, err := p.Invalidate(ctx, d.cfg.Namespace, []string{name}, nil)
	if err != nil {
		d.bad("canary-publish", "", "grant WRITE on the invalidation topic", "the canary cannot be published: %v", err)
		return
	}
	if err := d.canaryInLane(ctx, tok.Offsets(), lane.Of(name, max(d.cfg.Lanes, 1))); err != nil {
		d.bad("canary-worker", "", "look at the workers: freshet nodes, freshet lag", "no worker brought the canary into its lane within %s", d.canary)
		return
	}
	inLane := time.Since(began)
	if err := d.canaryAtNodes(ctx, lane.Of(name, max(d.cfg.Lanes, 1))); err != nil {
		d.bad("canary-node", err.Error(), "look at the node's link to Redis", "it has not seen the canary within %s, %s after its lane had it", d.canary, time.Since(began)-inLane)
		return
	}
	d.note("canary", "", "nothing to do", "went through Kafka, a worker and its lane in %s, and reached every node", inLane.Round(time.Millisecond))
}

func (d *doctor) canaryInLane(ctx context.Context, offsets map[string]int64, n int) error {
	scripts, err := lane.New(d.rdb, lane.Config{Namespace: d.cfg.Namespace, Lanes: d.cfg.Lanes})
	if err != nil {
		return fmt.Errorf("look at lane: %w", err)
	}
	return retry.Do(ctx, retry.Policy{Max: 200 * time.Millisecond}, func(ctx context.Context) error {
		for source, off := range offsets {
			st, err := scripts.State(ctx, n, []string{source}, nil)
			if err != nil {
				return fmt.Errorf("look at lane: %w", err)
			}
			if st.Watermarks[source] < off {
				return errNotThere
			}
		}
		return nil
	})
}

var errNotThere = errors.New("it is not there yet")

// canaryAtNodes waits until every node's position in the lane is at what the lane's head is now; the error's text is the
// node that is behind.
func (d *doctor) canaryAtNodes(ctx context.Context, n int) error {
	scripts, err := lane.New(d.rdb, lane.Config{Namespace: d.cfg.Namespace, Lanes: d.cfg.Lanes})
	if err != nil {
		return fmt.Errorf("look at lane: %w", err)
	}
	st, err := scripts.State(ctx, n, nil, nil)
	if err != nil {
		return fmt.Errorf("look at lane: %w", err)
	}
	head, _, _ := lane.SplitID(st.Last)
	behind := ""
	err = retry.Do(ctx, retry.Policy{Max: 500 * time.Millisecond}, func(ctx context.Context) error {
		nodes, err := invalidation.Nodes(ctx, d.rdb, d.cfg.Namespace)
		if err != nil {
			return fmt.Errorf("look at nodes: %w", err)
		}
		for _, x := range nodes {
			for _, l := range x.Lanes {
				if at, _, _ := lane.SplitID(l.Last); l.Lane == n && at < head {
					behind = x.ID
					return errNotThere
				}
			}
		}
		return nil
	})
	if err != nil {
		return errors.New(behind)
	}
	return nil
}

// examineBinding compares what the database belongs to.
func (d *doctor) examineBinding(ctx context.Context) {
	b, err := d.db.Binding.Get(ctx)
	if err != nil {
		return // migrations report it
	}
	for _, group := range b.Groups {
		if group != d.cfg.Kafka.Group {
			d.bad("foreign-group", group, "set kafka.group: "+group+", or use another database", "another consumer group writes this replica database")
		}
	}
	if b.Namespace != "" && b.Namespace != d.cfg.Namespace {
		d.bad("foreign-namespace", b.Namespace, "set namespace: "+b.Namespace+", use another database, or move it with freshet migrate namespace",
			"the database belongs to another namespace than %q", d.cfg.Namespace)
	}
}

// examineSchemas looks for declarations that are older than those of the last migration.
func (d *doctor) examineSchemas(ctx context.Context) {
	for _, ds := range d.set.All() {
		unknown, err := d.db.Declarations.UnknownProperties(ctx, ds)
		if err == nil && len(unknown) > 0 {
			d.note("schema-older", ds.Name, "use the registered declarations; if the properties are to go, run freshet migrate datasets --drop-property "+ds.Name+"."+unknown[0],
				"the registered schema has properties that this declaration lacks: %s; events that have them pause the dataset", strings.Join(unknown, ", "))
		}
	}
}

// examineVersions looks for datasets whose events change nothing.
func (d *doctor) examineVersions(w api.WorkerState) {
	for _, ds := range w.Datasets {
		if ds.Conflicts > 0 {
			d.bad("equal-versions", ds.Dataset, "let the source give each change a version of its own, and publish the records again",
				"%d events had the version of their row and other content: the rows differ from the source (worker %s)", ds.Conflicts, w.Owner)
		}
		if ds.VersionsWentBack {
			d.bad("versions-went-back", ds.Dataset, "if the source was restored from a backup, follow docs/reliability.md, \"A source that was restored\"",
				"most recent events have lower versions than their rows and change nothing (worker %s)", w.Owner)
		}
	}
}

// examinePlaces looks for topics whose records are in other partitions than their keys say.
func (d *doctor) examinePlaces(ctx context.Context) {
	if d.kafka == nil {
		return
	}
	for _, ds := range d.set.All() {
		info, err := d.kafka.Topic(ctx, ds.Topic)
		if err != nil || ds.Format != schemas.FormatCloudEvents {
			continue // topic-missing reports it; capture tools have partitioners of their own
		}
		if why, err := d.db.Topics.Scattered(ctx, ds.Topic, info.ID, info.Partitions); err == nil && why != "" {
			d.note("records-misplaced", ds.Topic, "let every client use Kafka's default partitioner (librdkafka: partitioner=murmur2_random); a new topic, filled again, ends it",
				"%s: searches by key look into all partitions, and the order of a record's events rests on versions alone", why)
		}
	}
}
