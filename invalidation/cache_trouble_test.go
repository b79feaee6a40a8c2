package invalidation_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// A Redis that answers syncs but no reads is tried by one read per sync, not by all of them.
func TestOneProbePerSync(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	admin := server.Client(t)
	check(t, admin.Do(t.Context(), "ACL", "SETUSER", "gray", "on", ">pw", "~*", "&*", "+@all", "-getrange").Err())
	o := *admin.Options()
	o.Username, o.Password = "gray", "pw"
	rdb := redis.NewClient(&o)
	t.Cleanup(func() { check(t, rdb.Close()) })
	n := r.joinBy(rdb, invalidation.Config{})
	r.current(n)
	c := r.cache(n)
	for i := 0; n.Stats().Syncs < 40; i++ {
		_, _ = c.Get(t.Context(), fmt.Sprint(i)) // absent records
	}
	stats, err := admin.Info(t.Context(), "commandstats").Result()
	check(t, err)
	m := regexp.MustCompile(`cmdstat_evalsha:.*failed_calls=(\d+)`).FindStringSubmatch(stats)
	if m == nil {
		t.Fatalf("no failed scripts in %s", stats)
	}
	failed, err := strconv.ParseInt(m[1], 10, 64)
	check(t, err)
	if syncs := n.Stats().Syncs; failed < 3 || failed > syncs+10 {
		t.Errorf("%d reads asked Redis in vain in %d syncs, want about one each", failed, syncs)
	}
	if why := strings.Join(n.NotReady(), ""); why != "" {
		t.Logf("not ready: %s", why)
	}
}

// A key of another Redis type concerns the records of that key alone, and is replaced.
func TestWrongTypeIsTheKeysProblem(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	r.current(n)
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LocalTTL: 1})
	for i := range 6 {
		r.change(fmt.Sprint(i))
	}
	wrong := func(k string) {
		check(t, r.rdb.Del(t.Context(), lane.KeysOf(r.ns, 0).Value("user:"+k)).Err())
		check(t, r.rdb.HSet(t.Context(), lane.KeysOf(r.ns, 0).Value("user:"+k), "a", 1).Err())
	}
	for range 5 {
		wrong("0")
		wantGet(t, c, "0", "0@1")
		wrong("1")
		got, err := c.GetMany(t.Context(), []string{"1", "2"})
		if err != nil || got["1"] != "1@1" || got["2"] != "2@1" {
			t.Errorf("GetMany returned %v, %v", got, err)
		}
	}
	wantGet(t, c, "0", "0@1")
	if s := c.Stats(); s.Bypasses["redis"] != 0 || s.Unreadable != 10 || s.SharedHits == 0 {
		t.Errorf("bypasses %v, unreadable %d, shared hits %d, want none, 10 and some", s.Bypasses, s.Unreadable, s.SharedHits)
	}
}
