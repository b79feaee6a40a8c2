package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// Fault campaigns: traffic that never stops, one kind of fault again and again, and then rest. What must hold is looked at
// all the time and once more at rest; errors on the way do not matter here.

// full reports whether campaigns run at their full length: FRESHET_FAULTS=full, which `make faults` sets.
func full() bool { return os.Getenv("FRESHET_FAULTS") == "full" }

// times is how often a fault is injected.
func times(short, long int) int {
	if full() {
		return long
	}
	return short
}

// healLimit is how long after the last fault everything may take to be at rest again.
const healLimit = 60 * time.Second

const (
	faultRecords = 300
	faultRate    = 400 // events per second
)

// chance returns a campaign's random source; its seed is printed, and FRESHET_FAULTS_SEED repeats it.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("FRESHET_FAULTS_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d; repeat with FRESHET_FAULTS_SEED=%[1]d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// campaign is a world under fire.
type campaign struct {
	*world

	rng   *rand.Rand
	nodes []*node
	// mysqlFails: nodes' loads may fail.
	mysqlFails bool
	kafkc      *kafkalog.Client

	stopTraffic func() (map[string]state, schemas.Token)
	stopReading func() (reads, hits int64)
	stopWatch   func()
}

// newCampaign makes a world of its own topic, on shared servers where s names none, and begins the traffic.
func newCampaign(t *testing.T, s servers) *campaign {
	t.Helper()
	if s.kafka == nil {
		s.kafka = testenv.Kafka(t)
	}
	topic := s.kafka.Topic(t)
	w := newWorldOn(t, s, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	w.env = append(w.env, "FRESHET_WORKER__SESSION_TIMEOUT="+faultSession.String(), "FRESHET_LOG__LEVEL=info")
	w.watchVersions("items", "id")
	c := &campaign{world: w, rng: chance(t)}
	var err error
	if c.kafkc, err = kafkalog.New(kafkalog.Config{Brokers: w.kafka.Brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kafkc.Close() })
	c.traffic()
	c.watch()
	return c
}

// faultSession is the group's session timeout: how long the partitions of a worker that was killed wait.
const faultSession = 1500 * time.Millisecond

// traffic publishes until stopTraffic, which returns the model and the token of all that was published.
func (c *campaign) traffic() {
	p := c.producer()
	tr := &traffic{rng: c.rng, model: map[string]state{}, keys: faultRecords}
	// The campaign and the traffic take chance from the same seed, not from the same source.
	tr.rng = rand.New(rand.NewPCG(c.rng.Uint64(), 3))
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	done := make(chan struct{})
	var mu sync.Mutex
	var token schemas.Token
	sent := 0
	go func() {
		defer close(done)
		limit := rate.NewLimiter(faultRate, 20)
		for limit.Wait(ctx) == nil {
			err := p.PublishAsync(context.WithoutCancel(ctx), tr.event(), func(tok schemas.Token, err error) {
				if err != nil {
					c.t.Errorf("publish: %v", err)
					return
				}
				mu.Lock()
				token = token.Merge(tok)
				mu.Unlock()
			})
			if err != nil {
				c.t.Errorf("publish: %v", err)
				return
			}
			sent++
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		testenv.Await(c.t, done)
	})
	c.t.Cleanup(stop)
	c.stopTraffic = func() (map[string]state, schemas.Token) {
		stop()
		if err := p.Flush(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		c.t.Logf("published %d events over %d records", sent, len(tr.model))
		return tr.model, token
	}
}

// join makes nodes that read all the time; the lane must exist.
func (c *campaign) join(n int) {
	c.t.Helper()
	for i := range n {
		c.nodes = append(c.nodes, c.node(fmt.Sprint("n", i)))
	}
	c.stopReading = readAll(c.t, c.nodes, faultRecords, faultRate, c.mysqlFails)
}

// watch checks all the time that no offset is committed to Kafka that MySQL has not reached.
func (c *campaign) watch() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// In this order, since positions only grow.
			committed, err := c.committed(ctx)
			if err != nil {
				continue // Kafka or MySQL is away
			}
			next, err := c.positions(ctx)
			if err != nil {
				continue
			}
			for p, at := range committed {
				if at > next[p] {
					c.t.Errorf("partition %d: %d is committed to Kafka, MySQL has %d", p, at, next[p])
				}
			}
		}
	}()
	c.stopWatch = sync.OnceFunc(func() {
		cancel()
		testenv.Await(c.t, done)
	})
	c.t.Cleanup(c.stopWatch)
}

func (c *campaign) topic() string {
	d, _ := c.datasets.Get("items")
	return d.Topic
}

func (c *campaign) committed(ctx context.Context) (map[int32]int64, error) {
	got, err := c.kafkc.CommittedOffsets(ctx, c.ns, []string{c.topic()})
	return got[c.topic()], err
}

func (c *campaign) positions(ctx context.Context) (map[int32]int64, error) {
	rows, err := c.db.QueryContext(ctx, "SELECT source, next_offset FROM freshet_position")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int32]int64{}
	for rows.Next() {
		var source string
		var next int64
		if err := rows.Scan(&source, &next); err != nil {
			return nil, err
		}
		topic, _, p, err := schemas.ParseSource(source)
		if err != nil {
			return nil, err
		}
		if topic == c.topic() {
			out[p] = next
		}
	}
	return out, rows.Err()
}

// rest ends the traffic after the last fault and demands, within healLimit, that everything published is applied and
// committed; and then that no row ever went back, and that whatever is cached equals the replica.
func (c *campaign) rest() {
	c.t.Helper()
	began := time.Now()
	model, token := c.stopTraffic()
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) error {
		if err := c.replicaEquals(ctx, model); err != nil {
			return err
		}
		return c.noLag(ctx)
	})
	c.t.Logf("at rest after %s", time.Since(began).Round(time.Millisecond))
	if back, all := c.versionsWentBack(); back != 0 || all == 0 {
		c.t.Errorf("%d of %d steps in the rows' histories went back", back, all)
	}
	c.stopWatch()
	for _, n := range c.nodes {
		c.seen(n.Node, token)
	}
	if c.stopReading != nil {
		reads, hits := c.stopReading()
		c.t.Logf("%d reads, %d served from memory", reads, hits)
		c.cachesEqual(c.t, c.nodes, model)
	}
	if letters := c.count("freshet_dead_letter"); letters != 0 {
		c.t.Errorf("%d dead letters of good events", letters)
	}
	if c.ownUsers {
		if n := c.count("intruders"); n != 0 {
			c.t.Errorf("%d transactions of workers that had lost their partitions were committed", n)
		}
	}
}

// noLag returns nil when every partition is committed to its end.
func (c *campaign) noLag(ctx context.Context) error {
	committed, err := c.committed(ctx)
	if err != nil {
		return err
	}
	ends, err := c.kafkc.Offsets(ctx, c.topic())
	if err != nil {
		return err
	}
	var errs []error
	for p, o := range ends {
		if at, ok := committed[p]; o.HighWater > 0 && (!ok || at != o.HighWater) {
			errs = append(errs, fmt.Errorf("partition %d is committed to %d of %d", p, at, o.HighWater))
		}
	}
	return errors.Join(errs...)
}

// progress waits until the replica has taken more than it has now: traffic flows.
func (c *campaign) progress() {
	c.t.Helper()
	sum := func(ctx context.Context) (n int64, err error) {
		ps, err := c.positions(ctx)
		for _, at := range ps {
			n += max(at, 0)
		}
		return n, err
	}
	before, since := int64(-1), time.Now()
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) error {
		n, err := sum(ctx)
		if err != nil {
			return err
		}
		if before < 0 {
			before = n
		}
		if n <= before {
			return fmt.Errorf("positions stand at %d in sum for %s", n, time.Since(since).Round(time.Millisecond))
		}
		return nil
	})
}

// taken waits until a worker owns every partition; others may be stopped and not know it.
func (c *campaign) taken(by *child) {
	c.t.Helper()
	testenv.Eventually(c.t, healLimit, func(ctx context.Context) error {
		var owned, all int
		err := c.db.QueryRowContext(ctx, "SELECT COALESCE(SUM(owner = ?), 0), COUNT(*) FROM freshet_position WHERE source LIKE ?",
			by.owner, c.topic()+"/%").Scan(&owned, &all)
		if err == nil && (owned < all || all == 0) {
			err = fmt.Errorf("%s owns %d of %d partitions", by.owner, owned, all)
		}
		return err
	})
}

// lookForIntruders makes the database note every transaction that moves a position and is not its owner's. For that each
// worker has a database user with its own name.
func (c *campaign) lookForIntruders() {
	c.t.Helper()
	c.ownUsers = true
	for _, stmt := range []string{
		"CREATE TABLE intruders (source VARBINARY(300), owner VARBINARY(255), who VARBINARY(255), next_offset BIGINT)",
		`CREATE TRIGGER intruder AFTER UPDATE ON freshet_position FOR EACH ROW INSERT INTO intruders
			SELECT NEW.source, NEW.owner, USER(), NEW.next_offset FROM DUAL
			WHERE NEW.fence = OLD.fence AND NEW.touched_at <> OLD.touched_at AND SUBSTRING_INDEX(USER(), '@', 1) <> CONVERT(NEW.owner USING utf8mb4)`,
	} {
		if _, err := c.db.ExecContext(c.t.Context(), stmt); err != nil {
			c.t.Fatal(err)
		}
	}
}

// userDSN makes a database user of that name and returns its DSN.
func (w *world) userDSN(name string) string {
	w.t.Helper()
	cfg, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, host := range []string{"localhost", "%"} {
		user := fmt.Sprintf("'%s'@'%s'", name, host)
		for _, stmt := range []string{"CREATE USER " + user, "GRANT ALL ON " + cfg.DBName + ".* TO " + user} {
			if _, err := w.db.ExecContext(w.t.Context(), stmt); err != nil {
				w.t.Fatal(err)
			}
		}
		w.t.Cleanup(func() {
			ctx := context.WithoutCancel(w.t.Context())
			if _, err := w.db.ExecContext(ctx, "DROP USER "+user); err != nil {
				w.t.Errorf("drop user: %v", err)
			}
		})
	}
	cfg.User, cfg.Passwd = name, ""
	return cfg.FormatDSN()
}

func (w *world) database() string {
	w.t.Helper()
	cfg, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg.DBName
}
