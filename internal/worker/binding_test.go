package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/migrations"
)

// deployment is another database and namespace beside b, with the same datasets and group.
func (b *bed) deployment() *bed {
	b.t.Helper()
	c := *b
	c.dsn, c.ns, c.workers = b.mysql.NewDatabase(b.t), b.redis.Namespace(b.t), 100
	c.db = b.mysql.Open(b.t, c.dsn)
	mig, err := migrations.New(c.db, migrations.Config{NoLock: true})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err = mig.Up(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	c.migrate(c.datasets)
	return &c
}

// Two deployments left kafka.group at the same name. The one that runs keeps all partitions; the other names both sides.
func TestOneGroupAndTwoDatabases(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	first := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	c := b.deployment()
	second := c.start(nil)
	awaitReason(t, second, "consumer group is shared with another deployment", database(b, b.dsn), database(c, c.dsn), b.ns, c.ns)
	b.putMany("others", 10)
	b.awaitDone("others")
	awaitReady(t, first)
	if n := c.count("items"); n != 0 {
		t.Errorf("the second database has %d rows of the first one's group", n)
	}
	first.stop()
	c.awaitDone("items") // the group is free
	awaitReady(t, second)
}

// Both deployments start at the same moment, so that neither finds the other in the group.
func TestOneGroupAndTwoDatabasesThatStartTogether(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	c := b.deployment()
	b.putMany("items", 10)
	b.putMany("others", 10)
	w1, w2 := b.start(nil), c.start(nil)
	testenv.Eventually(t, patience, func(context.Context) error {
		rows := [2]int{b.count("items") + b.count("others"), c.count("items") + c.count("others")}
		shared := [2]bool{w1.Stats().Consumer.Mixed != nil, w2.Stats().Consumer.Mixed != nil}
		if rows == [2]int{20, 0} && shared == [2]bool{false, true} || rows == [2]int{0, 20} && shared == [2]bool{true, false} {
			return nil
		}
		return fmt.Errorf("rows %v of 20 in one database; reported to be shared: %v", rows, shared)
	})
}

// A worker of another namespace would leave the first one's entries stale.
func TestAnotherNamespaceIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	first := b.start(nil)
	b.putMany("items", 3)
	b.awaitDone("items")
	c := *b
	c.ns, c.group = b.redis.Namespace(t), b.group+"-2"
	second := c.start(nil)
	awaitReason(t, second, "the database belongs to another namespace", b.ns, c.ns, "freshet migrate namespace")
	gone := b.hold("items", "k1", 1)
	b.put("items", "k1", 2)
	b.awaitDone("items")
	if !gone() {
		t.Error("an entry of the first namespace stays")
	}
	// The operator moves the database: the first namespace's workers are refused from then on.
	if err := b.open().Binding.Move(t.Context(), c.ns, c.group); err != nil {
		t.Fatal(err)
	}
	b.put("items", "k1", 3)
	c.awaitRow("items", "k1", 3)
	c.awaitDone("items")
	awaitReady(t, second)
	awaitReason(t, first, "the database belongs to another namespace", b.ns, c.ns)
}

// A database of a release that noted no namespace is bound to the one of its lanes.
func TestNamespaceOfAnOldDatabase(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 1)
	b.awaitDone("items")
	w.stop()
	b.exec("DELETE FROM freshet_meta WHERE name IN ('database', 'namespace')")
	c := *b
	c.ns = b.redis.Namespace(t)
	w = c.start(nil)
	awaitReason(t, w, "the database belongs to another namespace", b.ns, c.ns)
	w.stop()
	w = b.start(func(_ *worker.Config, _ *replica.Config) {})
	awaitReady(t, w)
}
