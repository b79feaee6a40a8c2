package followers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/lane"
)

// A follower loses its connections, messages, the lane, Redis and its data. Whatever it serves, nothing that was notified of
// longer ago than its bound is missing (world.read checks each answer), and after each fault it serves everything from its
// memory again, in its newest version.
func TestFollowersNeverServeWhatIsStalePastTheirBound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{})
		w.settle("the start")
		w.traffic(300)
		w.settle("traffic")
		if w.hits < w.reads/10 {
			t.Errorf("%d of %d reads served from memory: it hardly caches", w.hits, w.reads)
		}

		w.overtake = true
		for r := range records {
			w.change(r)
			w.tell(w.emitter, r)
			w.read(r)
		}
		w.overtake = false
		w.settle("loads that changes overtook")

		for range 3 {
			if err := w.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
			w.traffic(20)
		}
		w.settle("cut connections")

		for r := range records {
			w.change(r)
			w.tell(w.silent, r)
		}
		w.settle("lost messages")

		for n := range lanes {
			k := lane.KeysOf(w.ns, n)
			if err := w.rdb.Del(t.Context(), k.Meta, k.Stream, k.Floors0, k.Floors1).Err(); err != nil {
				t.Fatal(err)
			}
		}
		w.dark(time.Now().Add(2 * poll)) // a poll in flight may still have seen it
		w.repair()
		w.settle("a deleted lane")

		w.loneMaster("1")
		w.dark(time.Now().Add(2 * poll))
		w.loneMaster("0")
		w.repair()
		w.settle("a master that lost its replicas")

		w.server.Stop(t)
		w.dark(time.Now())
		w.server.Cont(t)
		w.repair()
		w.settle("a Redis that was stopped")

		w.server.RestartEmpty(t)
		w.dark(time.Now())
		w.repair()
		w.settle("a Redis that lost everything")
		w.traffic(50)
		w.settle("it all")
	})
}

// A follower that was made for another number of lanes, or for another cache section, would miss what makes its keys stale: it keeps nothing,
// and reports why.
func TestFollowersKeepNothingInAnotherNamespace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, why string
		setup     setup
	}{
		{"another number of lanes", "2 lanes", setup{lanes: "1"}},
		{"another cache section", "cache section", setup{section: "h0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
				w := newWorld(t, l, command, tc.setup)
				w.told(tc.why)
				w.traffic(50)
				if w.hits > 0 {
					t.Errorf("%d of %d reads served from memory", w.hits, w.reads)
				}
			})
		})
	}
}

// The workers change the dataset's cache section, and change it back. In between, other names are notified of, so nothing is served from memory.
func TestFollowersLeaveAnotherCacheSectionAlone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{})
		w.settle("the start")
		w.flush("h2")
		for r := range records {
			w.change(r) // under the other templates, nothing reports these names
		}
		w.blind(time.Now().Add(2 * poll))
		w.flush(section)
		w.settle("the section's return")
	})
}

// What nothing reports, a change by hand for instance, is seen when the entry ends.
func TestFollowersBoundEachEntry(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{ttl: "0.5"})
		testenv.Eventually(t, patience, func(context.Context) error {
			if _, hit := w.read(0); !hit {
				return errors.New("not kept yet")
			}
			return nil
		})
		w.change(0)
		testenv.Eventually(t, patience, func(context.Context) error {
			if v, _ := w.read(0); v != w.versions[0] {
				return fmt.Errorf("version %d of %d", v, w.versions[0])
			}
			return nil
		})
	})
}

// After a failover behind one address, connections to the old master stay, and it answers: it is a replica now. A follower must leave it.
func TestFollowersFollowAFailover(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{})
		w.settle("the start")
		next := testenv.StartRedis(t, testenv.RedisOptions{})
		next.Follow(t, w.server)
		next.InSync(t)
		if err := next.Client(t).Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
			t.Fatal(err)
		}
		w.server.Follow(t, next)
		w.proxy.LeadNew(next.Addr)
		w.repair()
		w.settle("a failover")
		w.traffic(20)
		w.settle("traffic at the new master")
	})
}

// A subscription that brings nothing is replaced, and one that cannot bring anything is notified of.
func TestFollowersNoticeThatMessagesGetLost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{})
		w.settle("the start")
		before := w.subscribers()
		testenv.Eventually(t, patience, func(context.Context) error {
			for r := range records {
				w.change(r)
				w.tell(w.silent, r)
			}
			for id := range w.subscribers() {
				if before[id] {
					return fmt.Errorf("subscription %s is still there", id)
				}
			}
			return nil
		})
		w.settle("new subscriptions")
	})
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{sharded: true})
		testenv.Eventually(t, patience, func(context.Context) error {
			w.traffic(1)
			if why := w.why(); !strings.Contains(why, "sharded") {
				return fmt.Errorf("it says %q", why)
			}
			return nil
		})
	})
}

// A follower starts, and answers, while Redis does not, and while it answers with errors; it says so.
func TestFollowersAnswerWithoutRedis(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, l language, command func(args ...string) *exec.Cmd) {
		w := newWorld(t, l, command, setup{down: true})
		w.read(0)
		w.told("cannot be read")
		w.server.Cont(t)
		w.repair()
		w.settle("Redis answers")
		for n := range lanes {
			if err := w.rdb.Set(t.Context(), lane.KeysOf(w.ns, n).Meta, "no hash", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		w.dark(time.Now().Add(2 * poll))
		w.told("WRONGTYPE")
		for n := range lanes {
			if err := w.rdb.Del(t.Context(), lane.KeysOf(w.ns, n).Meta).Err(); err != nil {
				t.Fatal(err)
			}
		}
		w.repair()
		w.settle("the lane's return")
	})
}

// A framework may set a key prefix on each connection of phpredis; the follower's own has none.
func TestPHPFollowerIgnoresKeyPrefix(t *testing.T) {
	t.Parallel()
	l := languages()[0]
	path, missing := l.interpreter(t.Context(), l.name)
	if missing != "" {
		testenv.Skip(t, missing+"; make test installs it where it runs as root on Debian")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(l.name)); err != nil {
		t.Fatal(err)
	}
	serve, err := os.ReadFile(filepath.Join(dir, "serve.php"))
	if err != nil {
		t.Fatal(err)
	}
	prefixed := regexp.MustCompile(`(?m)^(.*\$redis->connect\(.*)$`).ReplaceAll(serve, []byte("$1\n    $$redis->setOption(Redis::OPT_PREFIX, 'shop_database_');"))
	if bytes.Equal(prefixed, serve) {
		t.Fatal("serve.php connects in another way")
	}
	if err := os.WriteFile(filepath.Join(dir, "serve.php"), prefixed, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, l, func(args ...string) *exec.Cmd {
		cmd := exec.Command(path, append([]string{args[0] + l.suffix}, args[1:]...)...)
		cmd.Dir = dir
		return cmd
	}, setup{})
	w.settle("the start")
}

// told waits until the follower reports that reason for not caching.
func (w *world) told(text string) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func(context.Context) error {
		if why := w.why(); !strings.Contains(why, text) {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})
}

// subscribers are the ids of the connections that listen to the namespace's lanes.
func (w *world) subscribers() map[string]bool {
	w.t.Helper()
	list, err := w.rdb.Do(w.t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		w.t.Fatal(err)
	}
	ids := map[string]bool{}
	for line := range strings.Lines(list) {
		ids[strings.Fields(line)[0]] = true
	}
	return ids
}

// dark: nothing is announced since then, but records change.
func (w *world) dark(since time.Time) {
	w.t.Helper()
	for r := range records {
		w.change(r)
	}
	w.blind(since)
}

// loneMaster "1" makes Redis a master that lost its replicas: it answers reads, and may be one that was replaced.
func (w *world) loneMaster(least string) {
	w.t.Helper()
	if err := w.rdb.ConfigSet(w.t.Context(), "min-replicas-to-write", least).Err(); err != nil {
		w.t.Fatal(err)
	}
}
