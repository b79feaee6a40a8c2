package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Tokens that name any number of sources neither stop the node's syncs nor those who wait for real ones.
func TestForeignTokensDoNotSwitchCachesOff(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	n := r.join(invalidation.Config{MaxStaleness: 2 * time.Second})
	c := r.cache(n)
	r.current(n)
	wantGet(t, c, "42", "42@1")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 200 {
		var token schemas.Token
		for j := range 60 {
			token = token.Merge(schemas.NewToken(fmt.Sprintf("freshet.users/dG9waWMtb25l/%d", 1000+i*60+j), 1<<50))
		}
		wg.Go(func() { _ = n.WaitFor(ctx, token) })
	}
	eventually(t, "tokens are waited for", func() bool { return n.Stats().Waiting >= 9000 })
	before := n.Stats()
	if before.Waiting > 10_000 {
		t.Errorf("the node waits for %d sources", before.Waiting)
	}
	eventually(t, "node synced while they wait", func() bool { return n.Stats().Syncs >= before.Syncs+10 })
	v := r.db.change("42", false)
	off := r.emit([]lane.Item{{Key: "user:42", Version: v.version}})
	check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, off)))
	wantGet(t, c, "42", "42@2")
	if s := n.Stats(); s.SyncErrors != 0 || !s.Lanes[0].Fresh {
		t.Errorf("%d sync errors, lane %+v", s.SyncErrors, s.Lanes[0])
	}
	cancel()
	wg.Wait()
	if s := n.Stats(); s.Waiting != 0 {
		t.Errorf("%d sources are waited for by no reader", s.Waiting)
	}
}

// Readers that wait for a source that the lane does not know share what is asked of Redis about it.
func TestWaitersShareWhatTheyAsk(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	r.change("42")
	n := r.join(invalidation.Config{})
	r.current(n)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 200 {
		token := schemas.NewToken(fmt.Sprintf("freshet.users/dG9waWMtb25l/%d", 1000+i), 1<<50)
		wg.Go(func() { _ = n.WaitFor(ctx, token) })
	}
	eventually(t, "tokens are waited for", func() bool { return n.Stats().Waiting == 200 })
	asked := func() (calls int64) {
		stats, err := server.Client(t).Info(t.Context(), "commandstats").Result()
		check(t, err)
		if m := regexp.MustCompile(`cmdstat_hkeys:calls=(\d+)`).FindStringSubmatch(stats); m != nil {
			calls, err = strconv.ParseInt(m[1], 10, 64)
			check(t, err)
		}
		return calls
	}
	eventually(t, "they ask", func() bool { return asked() > 0 })
	began, before := time.Now(), asked()
	eventually(t, "they ask again", func() bool { return asked() >= before+5 })
	if got, most := asked()-before, int64(time.Since(began)/pollInterval)+2; got > most {
		t.Errorf("200 readers asked %d times in %s, want at most %d", got, time.Since(began), most)
	}
	cancel()
	wg.Wait()

	// That the topic was deleted and recreated is still found out, by each of them.
	for range 10 {
		wg.Go(func() {
			if err := n.WaitFor(t.Context(), schemas.NewToken("freshet.users/YW5vdGhlci10b3BpYw/0", 0)); !errors.Is(err, invalidation.ErrTokenGone) {
				t.Errorf("WaitFor returned %v", err)
			}
		})
	}
	wg.Wait()
}

// A lane's stream keeps no more entries than nodes read.
func TestStreamKeepsWhatNodesRead(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	for range 11_000 {
		r.emit([]lane.Item{{Key: "user:1", Version: 1}})
	}
	got, err := r.rdb.XLen(t.Context(), lane.KeysOf(r.ns, 0).Stream).Result()
	check(t, err)
	if got < 10_000 || got > 10_000+100 { // Redis trims whole parts of 100 entries
		t.Errorf("stream has %d entries, want about 10,000", got)
	}
}
