package lane_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/invalidation/lane"
)

// tick is so long that the time which a test takes is nothing. All spans are whole ticks less a half, so that what
// Redis' clock adds never decides. Instead of waiting, machine.age moves every time that the lane stores into the past.
const tick = 1000 * time.Second

func ticks(n int) time.Duration { return time.Duration(n)*tick - tick/2 }

// machine drives a lane and its shadow with the same steps.
type machine struct {
	rdb    *redis.Client
	s      *lane.Scripts
	k      lane.Keys
	m      *shadow
	ids    uint64
	tokens []handed
	roots  []string
}

type handed struct{ key, token string }

func TestScriptsAgainstShadow(t *testing.T) {
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		run := 0
		seen := map[string]int{}
		rapid.Check(t, func(t *rapid.T) {
			run++
			c := newMachine(t, rdb, fmt.Sprintf("%s.%d", ns, run))
			defer c.drop(t)
			t.Repeat(map[string]func(*rapid.T){
				"":          c.compare,
				"root":      func(t *rapid.T) { seen[c.root(t)]++ },
				"emit":      func(t *rapid.T) { seen[c.emit(t)]++ },
				"emit more": func(t *rapid.T) { seen[c.emit(t)]++ },
				"get":       func(t *rapid.T) { seen[c.get(t)]++ },
				"get more":  func(t *rapid.T) { seen[c.get(t)]++ },
				"fill":      func(t *rapid.T) { seen[c.fill(t)]++ },
				"fill more": func(t *rapid.T) { seen[c.fill(t)]++ },
				"age":       c.age,
				"lose":      c.lose,
			})
		})
		for _, want := range []string{
			"root 1", "root 2", "emit 1", "emit 2", "emit 3", "get 1", "get 2", "get 3", "get 4", "fill 1", "fill 2", "fill 3", "fill 4",
		} {
			if seen[want] == 0 {
				t.Errorf("no run came to status %q: %v", want, seen)
			}
		}
	})
}

func newMachine(t *rapid.T, rdb *redis.Client, ns string) *machine {
	hold, lease := rapid.SampledFrom([]int{0, 1, 3, 6}).Draw(t, "hold"), rapid.IntRange(1, 5).Draw(t, "lease ttl")
	tags := rapid.SampledFrom([]int{3, 1000}).Draw(t, "max tags")
	c := &machine{rdb: rdb, k: lane.KeysOf(ns, 0), m: newShadow(hold, lease, tags), ids: 100}
	cfg := lane.Config{
		Namespace: ns, StreamLen: 1000, Hold: ticks(hold), LeaseTTL: ticks(lease), MaxTags: tags,
		Nonce: func() uint64 { return c.ids },
	}
	var err error
	if c.s, err = lane.New(rdb, cfg); err != nil {
		t.Fatal(err)
	}
	if rapid.IntRange(0, 9).Draw(t, "begins without a lane") > 0 {
		c.root(t)
	}
	return c
}

func (c *machine) drop(t *rapid.T) {
	if err := c.rdb.Del(context.Background(), c.names()...).Err(); err != nil {
		t.Fatal(err)
	}
}

var cacheKeys = []string{"a", "b", "c:é", "d d"}

func (c *machine) names() []string {
	out := []string{c.k.Stream, c.k.Meta, c.k.Tags, c.k.Floors0, c.k.Floors1}
	for _, k := range cacheKeys {
		out = append(out, c.k.Value(k))
	}
	return out
}

func (c *machine) root(t *rapid.T) string {
	c.ids++
	r := lane.RootRequest{Expected: c.m.root}
	if len(c.roots) > 0 && rapid.IntRange(0, 3).Draw(t, "wrong root") == 0 {
		r.Expected = rapid.SampledFrom(append(c.roots, "")).Draw(t, "root")
	}
	hold := 0
	if rapid.IntRange(0, 2).Draw(t, "with hold") == 0 {
		hold = rapid.IntRange(1, 3).Draw(t, "hold")
		r.HoldMillis = ticks(hold).Milliseconds()
	}
	if rapid.Bool().Draw(t, "with watermark") {
		r.Source, r.Watermark = source(t), rapid.Int64Range(0, 10).Draw(t, "watermark")
	}
	got, err := c.s.Root(context.Background(), 0, r)
	want := c.m.setRoot(r.Expected, c.ids, r.Source, r.Watermark, hold)
	same(t, err, want, got)
	c.roots = append(c.roots, c.m.root)
	return "root " + strconv.Itoa(int(got.Status))
}

func source(t *rapid.T) string { return "s/1/" + strconv.Itoa(rapid.IntRange(0, 1).Draw(t, "source")) }

func (c *machine) emit(t *rapid.T) string {
	c.ids++
	root, start := c.m.root, rapid.Int64Range(0, 3).Draw(t, "start")
	if rapid.IntRange(0, 9).Draw(t, "wrong root") == 0 {
		root = rapid.SampledFrom(append(c.roots, "1")).Draw(t, "root")
	}
	e := lane.Emission{Source: source(t), Keep: rapid.Bool().Draw(t, "keep"), Time: 5}
	next := start
	if wm, ok := c.m.wm[e.Source]; ok {
		next = wm + 1
	}
	e.From = max(0, next+rapid.Int64Range(-2, 1).Draw(t, "from"))
	e.To = e.From + rapid.Int64Range(-1, 2).Draw(t, "to")
	e.Items = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lane.Item {
		return lane.Item{Key: rapid.SampledFrom(cacheKeys).Draw(t, "key"), Version: rapid.Int64Range(0, 9).Draw(t, "version")}
	}), 0, 4).Draw(t, "items")
	e.Tags = rapid.SliceOfN(rapid.SampledFrom([]string{"t", "u", "v:1"}), 0, 2).Draw(t, "tags")
	c.m.tie = c.inUse(t)
	got, err := c.s.Emit(context.Background(), 0, root, start, e)
	want := c.m.emit(root, start, e, c.ids)
	same(t, err, want, got)
	if got.Status == lane.OK && len(e.Items)+len(e.Tags) > 0 {
		c.entry(t, got.ID, e)
	}
	return "emit " + strconv.Itoa(int(got.Status))
}

// inUse is the floor hash that Redis has needed longer.
func (c *machine) inUse(t *rapid.T) int {
	v, err := c.rdb.HMGet(context.Background(), c.k.Meta, "f0", "f1").Result()
	c.must(t, err)
	var u [2]int64
	for i := range u {
		if text, ok := v[i].(string); ok {
			u[i], err = strconv.ParseInt(text, 10, 64)
			c.must(t, err)
		}
	}
	if u[1] > u[0] {
		return 1
	}
	return 0
}

// entry looks at the newest entry of the stream.
func (c *machine) entry(t *rapid.T, id string, e lane.Emission) {
	got, err := c.rdb.XRevRangeN(context.Background(), c.k.Stream, "+", "-", 1).Result()
	if err != nil || len(got) != 1 || got[0].ID != id {
		t.Fatalf("newest entry: %v, %v", got, err)
	}
	p, err := lane.ParsePayload(got[0].Values["m"].(string))
	same(t, err, lane.Payload{Source: e.Source, From: e.From, To: e.To, Time: 5, Items: e.Items, Tags: e.Tags}, p)
}

func (c *machine) get(t *rapid.T) string {
	key := rapid.SampledFrom(cacheKeys).Draw(t, "key")
	c.ids++
	token := strconv.FormatUint(c.ids, 10)
	if len(c.tokens) > 0 && rapid.IntRange(0, 4).Draw(t, "sent again") == 0 {
		h := rapid.SampledFrom(c.tokens).Draw(t, "token")
		key, token = h.key, h.token
	}
	got, err := c.s.Get(context.Background(), key, token)
	same(t, err, c.m.get(key, token), got)
	if got.Status == lane.GetLease {
		c.tokens = append(c.tokens, handed{key, token})
		c.tokens = c.tokens[max(0, len(c.tokens)-5):]
	}
	return "get " + strconv.Itoa(int(got.Status))
}

func (c *machine) fill(t *rapid.T) string {
	if len(c.tokens) == 0 {
		return "no token"
	}
	h := rapid.SampledFrom(c.tokens).Draw(t, "token")
	ttl := rapid.IntRange(1, 6).Draw(t, "ttl")
	r := lane.FillRequest{
		Key: h.key, Token: h.token, Version: rapid.Int64Range(0, 9).Draw(t, "version"), TTL: ticks(ttl),
		Value:   []byte(rapid.SampledFrom([]string{"", "x", "V 1 2 3 4 0\n", strings.Repeat("y", 1300)}).Draw(t, "value")),
		Tags:    rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"t", "u"}), 0, 2, rapid.ID).Draw(t, "tags"),
		Primary: rapid.Bool().Draw(t, "primary"),
	}
	got, err := c.s.Fill(context.Background(), r)
	same(t, err, c.m.fill(r, ttl), got)
	return "fill " + strconv.Itoa(int(got))
}

// lose takes the whole lane, or its meta hash alone.
func (c *machine) lose(t *rapid.T) {
	if rapid.IntRange(0, 7).Draw(t, "lose") > 0 {
		return
	}
	names := c.names()
	if rapid.Bool().Draw(t, "meta alone") {
		names = []string{c.k.Meta}
		c.m.loseMeta()
	} else {
		c.m.lose()
	}
	if err := c.rdb.Del(context.Background(), names...).Err(); err != nil {
		t.Fatal(err)
	}
}

func same[T any](t *rapid.T, err error, want, got T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
}

// age moves everything that the lane knows of time one tick into the past.
func (c *machine) age(t *rapid.T) {
	ctx, back := context.Background(), tick.Milliseconds()
	c.m.tick()
	older := func(s string) string {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatInt(max(n-back, 0), 10)
	}
	for _, f := range []string{"f0", "f1", "fa"} {
		v, err := c.rdb.HGet(ctx, c.k.Meta, f).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		c.must(t, errors.Join(err, c.rdb.HSet(ctx, c.k.Meta, f, older(v)).Err()))
	}
	tags, err := c.rdb.HGetAll(ctx, c.k.Tags).Result()
	c.must(t, err)
	for name, v := range tags {
		seq, at, _ := strings.Cut(v, ":")
		c.must(t, c.rdb.HSet(ctx, c.k.Tags, name, seq+":"+older(at)).Err())
	}
	for _, key := range cacheKeys {
		name := c.k.Value(key)
		raw, err := c.rdb.Get(ctx, name).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		ttl, err2 := c.rdb.PTTL(ctx, name).Result()
		c.must(t, errors.Join(err, err2))
		if ttl <= tick {
			c.must(t, c.rdb.Del(ctx, name).Err())
			continue
		}
		f := strings.SplitN(raw, " ", 6)
		f[4] = older(f[4])
		c.must(t, c.rdb.Set(ctx, name, strings.Join(f, " "), ttl-tick).Err())
	}
}

func (c *machine) must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare looks at everything that is stored in Redis.
func (c *machine) compare(t *rapid.T) {
	ctx := context.Background()
	p := c.rdb.Pipeline()
	floors := [2]*redis.MapStringStringCmd{p.HGetAll(ctx, c.k.Floors0), p.HGetAll(ctx, c.k.Floors1)}
	tags := p.HGetAll(ctx, c.k.Tags)
	raw := map[string]*redis.StringCmd{}
	for _, key := range cacheKeys {
		raw[key] = p.Get(ctx, c.k.Value(key))
	}
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	c.compareMeta(t)
	for i := range floors {
		got := floors[i].Val()
		if note := got["#"]; len(got) > 0 && len(note) <= 64 {
			t.Fatalf("floor hash %d is small enough for a listpack", i)
		}
		delete(got, "#")
		want := map[string]string{}
		for k, f := range c.m.floors[i] {
			want[c.k.Value(k)] = strconv.FormatInt(f, 10)
		}
		same(t, nil, want, got)
	}
	want := map[string]string{}
	for name, st := range c.m.tags {
		want[name] = strconv.FormatInt(st.seq, 10)
	}
	got := tags.Val()
	for name, v := range got {
		got[name], _, _ = strings.Cut(v, ":")
	}
	same(t, nil, want, got)
	for key, cmd := range raw {
		c.compareKey(t, key, cmd.Val())
	}
}

func (c *machine) compareMeta(t *rapid.T) {
	st, err := c.s.State(context.Background(), 0, []string{"s/1/0", "s/1/1"}, nil)
	want := lane.State{Exists: c.m.exists, Root: c.m.root, Last: c.m.last}
	if c.m.exists {
		want.Lanes, want.Watermarks = 1, c.m.wm
	}
	same(t, err, want, st)
}

func (c *machine) compareKey(t *rapid.T, key, raw string) {
	h, ok := c.m.keys[key]
	v, isValue := lane.ParseValue([]byte(raw))
	switch {
	case !ok:
		if raw != "" {
			t.Fatalf("%s: nothing wanted, got %q", key, raw)
		}
	case h.lease:
		f := strings.SplitN(raw, " ", 6)
		want := []string{"L", strconv.FormatInt(h.floor, 10), h.root, strconv.FormatInt(h.seq, 10), h.token}
		if len(f) != 6 || !cmp.Equal(want, []string{f[0], f[1], f[2], f[3], f[5]}) {
			t.Fatalf("%s: want %q, got %q", key, want, raw)
		}
	default:
		want := lane.Value{Version: h.version, Root: h.root, Seq: h.seq, Tags: h.tags, Data: []byte(h.value), Expiry: v.Expiry}
		if d := cmp.Diff(want, v, cmpopts.EquateEmpty()); !isValue || d != "" {
			t.Fatalf("%s: %q\n%s", key, raw, d)
		}
	}
}
