package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/testenv"
)

// pace returns the given number of turns, one every d.
func pace(t *testing.T, d time.Duration, turns int) func(func(i int) bool) {
	return func(yield func(i int) bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for i := range turns {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
			if !yield(i) {
				return
			}
		}
	}
}

// Workers join and leave every two seconds, orderly or not; one stays.
func TestRebalanceStorm(t *testing.T) {
	t.Parallel()
	c := newCampaign(t, servers{})
	c.startWorker()
	c.join(2)
	var guests []*testenv.Process
	for range pace(t, 2*time.Second, times(8, 30)) {
		if len(guests) < 2 || len(guests) < 4 && c.rng.IntN(2) == 0 {
			guests = append(guests, c.startWorker())
			continue
		}
		i := c.rng.IntN(len(guests))
		g := guests[i]
		guests = append(guests[:i], guests[i+1:]...)
		if c.rng.IntN(3) == 0 {
			g.Kill(t)
			continue
		}
		if err := g.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	c.progress()
	c.rest()
}

// MariaDB is killed and restarted, or is stopped, while traffic continues.
func TestDatabaseDies(t *testing.T) {
	t.Parallel()
	my := testenv.StartMySQL(t, testenv.MySQLOptions{})
	c := newCampaign(t, servers{mysql: my})
	c.mysqlFails = true
	c.startChild("", 0)
	c.startChild("", 0)
	c.join(2)
	for i := range times(3, 20) {
		c.progress()
		if i%3 == 2 {
			my.Stop(t)
			for range pace(t, time.Second, 3) { // longer than the group's session
			}
			my.Cont(t)
			continue
		}
		my.Kill(t)
		my.Restart(t)
	}
	c.progress()
	c.rest()
}

// Another writer locks the same rows in any order, and holds some for longer than a worker waits for a lock.
func TestDeadlocksAndLockWaits(t *testing.T) {
	t.Parallel()
	c := newCampaign(t, servers{})
	c.startChild("", 0)
	c.startChild("", 0)
	c.join(2)
	c.progress()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times(8, 60))*time.Second)
	defer cancel()
	counts := map[uint16]int{}
	rng := rand.New(rand.NewPCG(c.rng.Uint64(), 4))
	for ctx.Err() == nil {
		err := c.lockRows(ctx, rng)
		var my *mysql.MySQLError
		switch {
		case errors.As(err, &my):
			counts[my.Number]++
		case err == nil:
			counts[0]++
		case ctx.Err() == nil:
			t.Fatal(err)
		}
	}
	t.Logf("transactions of the other writer by MySQL's error number, 0 none: %v", counts)
	if counts[1213] == 0 {
		t.Error("no deadlock came about: the test shows nothing")
	}
	c.rest()
}

func (c *campaign) lockRows(ctx context.Context, rng *rand.Rand) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing is to be kept
	for range 12 {
		if _, err := tx.ExecContext(ctx, "UPDATE items SET _at = _at WHERE id = ?", fmt.Sprintf("k%04d", rng.IntN(faultRecords))); err != nil {
			return err
		}
	}
	if rng.IntN(20) == 0 {
		// A lock wait of the workers is one second.
		if _, err := tx.ExecContext(ctx, "DO SLEEP(1.5)"); err != nil {
			return err
		}
	}
	return tx.Rollback()
}

// The only broker is killed and restarted while traffic continues.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	kafka := testenv.StartKafka(t, testenv.KafkaOptions{})
	kafka.RequireReal(t)
	c := newCampaign(t, servers{kafka: kafka})
	c.startChild("", 0)
	c.startChild("", 0)
	c.join(2)
	for range times(1, 5) {
		c.progress()
		kafka.Kill(t)
		kafka.Restart(t)
	}
	c.progress()
	c.rest()
}

// Redis is stopped for longer than a node may serve unproved, and dies with all that it held.
func TestRedisStandsStillAndDies(t *testing.T) {
	t.Parallel()
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	c := newCampaign(t, servers{redis: rs})
	c.startChild("", 0)
	c.startChild("", 0)
	c.join(2)
	for range times(1, 10) {
		c.progress()
		rs.Stop(t)
		for range pace(t, time.Second, 3) {
		}
		rs.Cont(t)
		c.progress()
		rs.RestartEmpty(t)
	}
	c.progress()
	c.rest()
}
