package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// batches is a LoadMany over the rig's database that notes what it was asked.
type batches struct {
	db    *database
	mu    sync.Mutex
	calls []string // source and number of keys
}

func (b *batches) load(_ context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
	b.mu.Lock()
	b.calls = append(b.calls, fmt.Sprintf("%s %d", [...]string{"any", "primary"}[from], len(keys)))
	b.mu.Unlock()
	all := map[string]invalidation.Loaded[string]{}
	for _, k := range keys {
		if l := b.db.read(k, from); l.Found {
			all[k] = l
		}
	}
	return all, nil
}

func (b *batches) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func wantMany(t *testing.T, c *invalidation.Cache[string], keys []string, want map[string]string) {
	t.Helper()
	got, err := c.GetMany(t.Context(), keys)
	if err != nil {
		t.Errorf("GetMany: %v", err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("GetMany (-want +got):\n%s", d)
	}
	filled(t, c)
}

// users changes that many users and returns their keys and values.
func (r *rig) users(n int) ([]string, map[string]string) {
	want := map[string]string{}
	var items []lane.Item
	for i := range n {
		k := fmt.Sprint(i)
		v := r.db.change(k, false)
		want[k] = v.value
		items = append(items, lane.Item{Key: "user:" + k, Version: v.version})
	}
	for batch := range slices.Chunk(items, lane.MaxKeys) {
		r.emit(batch)
	}
	return slices.Sorted(maps.Keys(want)), want
}

func TestGetManyInBatches(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.rdb.ScriptFlush(t.Context()) // the first of all lookups finds no script
	keys, want := r.users(250)
	n := r.join(invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
	wantGet(t, c, "7", want["7"]) // one is here already
	asked := append([]string{"absent", "7", "7"}, keys...)
	wantMany(t, c, asked, want)
	if got, want := b.took(), []string{"any 100", "any 100", "any 50"}; !slices.Equal(got, want) {
		t.Errorf("LoadMany was called for %q, want %q", got, want)
	}
	wantMany(t, c, asked, want)
	if got := b.took(); len(got) > 0 || r.db.loads.Load() != 1 {
		t.Errorf("read again: %q and %d single loads, want only the first Get's", got, r.db.loads.Load())
	}
	other := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
	wantMany(t, other, asked, want)
	if s := other.Stats(); s.SharedHits != 251 || s.Loads != 0 {
		t.Errorf("another node: %+v, want all from the shared tier", s)
	}
	_, want = r.users(250)
	r.current(n)
	wantMany(t, c, asked, want)
}

func TestGetManyWithoutLoadMany(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(150)
	c := r.cache(r.join(invalidation.Config{}))
	wantMany(t, c, keys, want)
	wantMany(t, c, keys, want)
	if s := c.Stats(); s.Loads != 150 || s.LocalHits != 150 {
		t.Errorf("stats: %+v", s)
	}
	wantMany(t, c, nil, map[string]string{})
}

// What a lagging source returns below the floors is loaded again from the primary, together too.
func TestGetManyHeedsFloors(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.users(20)
	r.db.lag(true)
	keys, want := r.users(10)
	r.db.change("15", false)
	r.emit([]lane.Item{{Key: "user:15"}}) // floor: the primary only
	keys, want["15"] = append(keys, "15", "16"), "15@2"
	want["16"] = "16@1"
	n := r.join(invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
	wantMany(t, c, keys, want)
	if got, want := b.took(), []string{"any 11", "primary 11"}; !slices.Equal(got, want) {
		t.Errorf("LoadMany was called for %q, want %q", got, want)
	}
	wantMany(t, c, keys, want)
	if s := c.Stats(); s.LocalHits != 12 || r.db.loads.Load() != 0 {
		t.Errorf("not all was kept: %+v", s)
	}
}

// Without Redis the batches read the primary, once per MaxStaleness and again after a WaitFor.
func TestGetManyWithoutLane(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, k := range []string{"1", "2", "3"} {
		r.db.change(k, false)
	}
	n := r.join(invalidation.Config{})
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
	keys, want := []string{"1", "2", "3"}, map[string]string{"1": "1@1", "2": "2@1", "3": "3@1"}
	wantMany(t, c, keys, want)
	wantMany(t, c, keys, want)
	check(t, n.WaitFor(t.Context(), schemas.Token{}))
	wantMany(t, c, keys, want)
	if got, want := b.took(), []string{"primary 3", "primary 3"}; !slices.Equal(got, want) {
		t.Errorf("LoadMany was called for %q, want %q", got, want)
	}
}

func TestGetManyFails(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	boom := errors.New("boom")
	n := r.join(invalidation.Config{})
	how := atomic.Pointer[func()]{}
	single := func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		if key == "bad" {
			return invalidation.Loaded[string]{}, boom
		}
		return r.db.read(key, from), nil
	}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: single, BusyWait: -1, LoadMany: func(ctx context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
		if f := how.Load(); f != nil {
			(*f)()
		}
		return nil, boom
	}})
	r.db.change("1", false)
	wantGet(t, c, "1", "1@1")
	got, err := c.GetMany(t.Context(), []string{"1", "2", "3"})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "2 of 3") || !maps.Equal(got, map[string]string{"1": "1@1"}) {
		t.Errorf("GetMany gave %v, %v", got, err)
	}
	wantGet(t, c, "1", "1@1")
	if _, err := c.GetMany(t.Context(), []string{"1", ""}); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("impossible key: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetMany(ctx, []string{"2"}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	boo := func() { panic("at the loader") }
	how.Store(&boo)
	func() {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, "at the loader") || strings.Count(got, "loader of dataset") != 1 {
				t.Errorf("the caller recovered %q", got)
			}
		}()
		_, err := c.GetMany(t.Context(), []string{"2"})
		t.Errorf("GetMany returned %v", err)
	}()
	check(t, n.Close())
	if _, err := c.GetMany(t.Context(), []string{"2"}); !errors.Is(err, invalidation.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A load for many that began before a change is not kept for the changed key, but is for its neighbours.
func TestGetManyRefusesLoadThatBeganBeforeTheChange(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(3)
	n := r.join(invalidation.Config{})
	r.current(n)
	began, goOn := make(chan struct{}), make(chan struct{})
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: func(ctx context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
		l, err := b.load(ctx, keys, from)
		close(began)
		<-goOn
		return l, err
	}})
	done := make(chan struct{})
	go func() { defer close(done); wantMany(t, c, keys, want) }()
	testenv.Await(t, began)
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@2") // does not share the older load
	close(goOn)
	testenv.Await(t, done)
	wantGet(t, c, "1", "1@2")
	wantGet(t, c, "0", "0@1")
	if s := c.Stats(); s.Refusals["lost"]+s.Refusals["guard"] != 1 || s.LocalHits != 2 {
		t.Errorf("stats: %+v, want one refusal and both read from memory", s)
	}
}

// turns counts the fills that each connection sends before it waits for an answer.
type turns struct {
	mu    sync.Mutex
	fills []int
}

// aFill is a call of the script that has three keys.
var aFill = regexp.MustCompile(`evalsha\r\n\$40\r\n[0-9a-f]{40}\r\n\$1\r\n3\r\n`)

func (c *turns) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &turnConn{Conn: conn, turns: c}, err
}

// turnConn is used by one goroutine at a time.
type turnConn struct {
	net.Conn

	turns *turns
	sent  []byte
}

func (c *turnConn) Write(b []byte) (int, error) {
	c.sent = append(c.sent, b...)
	return c.Conn.Write(b)
}

func (c *turnConn) Read(b []byte) (int, error) {
	if n := len(aFill.FindAll(c.sent, -1)); n > 0 {
		c.turns.mu.Lock()
		c.turns.fills = append(c.turns.fills, n)
		c.turns.mu.Unlock()
	}
	c.sent = nil
	return c.Conn.Read(b)
}

// What LoadMany returned is stored in one round trip, and what the codec or the shared tier refuses concerns its key alone.
func TestGetManyStoresInOneRoundTrip(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(100)
	counts := &turns{}
	o := *r.server.Client(t).Options()
	o.Dialer = counts.dial
	n := r.joinBy(r.clientOf(&o), invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load})
	wantMany(t, c, keys, want)
	counts.mu.Lock()
	if !slices.Equal(counts.fills, []int{100}) {
		t.Errorf("fills of each round trip: %d, want 100 in one", counts.fills)
	}
	counts.mu.Unlock()
	wantMany(t, c, keys, want)
	if s := c.Stats(); s.LocalHits != 100 || s.Loads != 1 {
		t.Errorf("stats: %+v, want all kept", s)
	}
}

// A server that forgot its scripts while the loader ran gets them again.
func TestGetManyBringsTheFillScript(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(3)
	n := r.join(invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: func(ctx context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
		r.rdb.ScriptFlush(ctx)
		return b.load(ctx, keys, from)
	}})
	wantMany(t, c, keys, want)
	wantMany(t, c, keys, want)
	if s := c.Stats(); s.LocalHits != 3 || s.Refusals["redis"] != 0 {
		t.Errorf("stats: %+v, want all kept", s)
	}
}

// picky is a codec that cannot write some values.
type picky struct{ invalidation.Codec[string] }

func (p picky) Encode(v string) ([]byte, error) {
	switch {
	case strings.HasPrefix(v, "1@"):
		return nil, errors.New("not this one")
	case strings.HasPrefix(v, "2@"):
		panic("not that one")
	}
	return p.Codec.Encode(v)
}

func TestGetManyWithValuesThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(4)
	n := r.join(invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: b.load, Codec: picky{invalidation.JSON[string]{}}})
	func() {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, "not that one") {
				t.Errorf("the caller recovered %q", got)
			}
		}()
		_, err := c.GetMany(t.Context(), keys)
		t.Errorf("GetMany returned %v, want the codec's panic", err)
	}()
	wantMany(t, c, []string{"0", "1", "3"}, map[string]string{"0": want["0"], "1": want["1"], "3": want["3"]})
	if s := c.Stats(); s.LocalHits != 2 || s.Refusals["codec"] != 2 {
		t.Errorf("stats: %+v, want the others kept", s)
	}
}

// What Redis refuses of some keys while it takes the others is loaded from the primary; the others are not.
func TestGetManyKeepsWhatIsStoredBesideARefusal(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys, want := r.users(100)
	n := r.join(invalidation.Config{})
	r.current(n)
	b := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: func(ctx context.Context, ks []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
		for _, k := range keys[:16] { // another program's, by the time of the fill
			at := lane.KeysOf(r.ns, 0).Value("user:" + k)
			r.rdb.Del(ctx, at)
			r.rdb.HSet(ctx, at, "a", 1)
		}
		return b.load(ctx, ks, from)
	}})
	wantMany(t, c, keys, want)
	if s := c.Stats(); s.Refusals["lost"] > 0 || s.Refusals["redis"] != 16 || s.PrimaryLoads > 16+parallel {
		t.Errorf("%d loads of the primary, refusals %v; want those of the 16 keys", s.PrimaryLoads, s.Refusals)
	}
}

// parallel is how many fills may be under way when the first refusal is noticed.
const parallel = 16
