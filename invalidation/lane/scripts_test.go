package lane_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/lane"
)

// longest are the longest numbers that a lane can come to.
const (
	longestNonce = 1<<48 - 1
	longestRoot  = "281474976710655"
	longestSeq   = "9007199254740000"
)

// created returns scripts and a lane with root longestRoot and the longest numbers.
func created(t *testing.T, rdb *redis.Client, cfg lane.Config) *lane.Scripts {
	t.Helper()
	cfg.Nonce = func() uint64 { return longestNonce }
	s := scripts(t, rdb, cfg)
	if r, err := s.Root(t.Context(), 0, lane.RootRequest{}); err != nil || r.Status != lane.OK {
		t.Fatal(r, err)
	}
	if err := rdb.HSet(t.Context(), s.Keys(0).Meta, "seq", longestSeq).Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExact: value, tags and token come back as they were given, and no other token fills, whatever the bytes are.
func TestExact(t *testing.T) {
	noise := make([]byte, 8192)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var every []byte
	for i := range 256 {
		every = append(every, byte(i))
	}
	long := strings.Repeat("ä😀", 85) // 510 bytes
	values := []string{"", "\n", "\x00", "V 1 2 3 4 5\n", "L 1 2 3 4 x", string(noise), string(every), "\r\n$-1\r\n"}
	tags := [][]string{nil, {"a"}, {"cat:5", "V 1 2 3 4 0"}, append(slicesRepeat(long+"x", 7), long)}
	tokens := []string{"1", "a b\nc", string(every), "9007199254740991-281474976710655", strings.Repeat("t", lane.MaxToken)}
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		s := created(t, rdb, lane.Config{Namespace: ns})
		for i, v := range values {
			for j, g := range tags {
				for k, tok := range tokens {
					c := exact{rdb: rdb, s: s, key: fmt.Sprintf("%d %d %d é", i, j, k), token: tok}
					for _, version := range []int64{0, lane.PrimaryOnly - 1} {
						c.roundTrip(t, version, v, g)
					}
				}
			}
		}
		// Around the length that the get script reads at once.
		for n := 1090; n < 1210; n++ {
			for _, g := range [][]string{nil, {"a", "b"}} {
				c := exact{rdb: rdb, s: s, key: "length", token: "t"}
				c.store(t, 7, string(noise[:n]), g)
				c.hit(t, 7, string(noise[:n]), g)
			}
		}
	})
}

func slicesRepeat(s string, n int) []string {
	return strings.Split(strings.Repeat(s+"\n", n)[:n*(len(s)+1)-1], "\n")
}

type exact struct {
	rdb        *redis.Client
	s          *lane.Scripts
	key, token string
}

// store takes a new lease and fills it.
func (c *exact) store(t *testing.T, version int64, value string, tags []string) {
	t.Helper()
	if err := c.rdb.Del(t.Context(), c.s.Keys(0).Value(c.key)).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as if the client had sent it again
		g, err := c.s.Get(t.Context(), c.key, c.token)
		if d := cmp.Diff(lane.GetReply{Status: lane.GetLease, Root: longestRoot}, g); err != nil || d != "" {
			t.Fatal(err, d)
		}
	}
	for _, bad := range []string{c.token + "1", c.token[:len(c.token)-1], "x" + c.token[1:], " " + c.token} {
		if bad == "" || bad == c.token || len(bad) > lane.MaxToken {
			continue
		}
		if f, err := c.s.Fill(t.Context(), lane.FillRequest{Key: c.key, Token: bad, Version: version, Value: []byte("evil"), Primary: true}); err != nil || f != lane.FillLost {
			t.Fatalf("token %q filled the lease of %q: %v %v", bad, c.token, f, err)
		}
		if g, err := c.s.Get(t.Context(), c.key, bad); err != nil || g.Status != lane.GetBusy {
			t.Fatal(g, err)
		}
	}
	r := lane.FillRequest{Key: c.key, Token: c.token, Version: version, Value: []byte(value), Tags: tags, Primary: true}
	for i, want := range []lane.FillStatus{lane.FillOK, lane.FillLost} {
		if f, err := c.s.Fill(t.Context(), r); err != nil || f != want {
			t.Fatalf("fill %d: got %v, %v", i, f, err)
		}
	}
}

func (c *exact) roundTrip(t *testing.T, version int64, value string, tags []string) {
	t.Helper()
	c.store(t, version, value, tags)
	c.hit(t, version, value, tags)
	raw, err := c.rdb.Get(t.Context(), c.s.Keys(0).Value(c.key)).Bytes()
	v, ok := lane.ParseValue(raw)
	if err != nil || !ok || string(v.Data) != value || v.Version != version || !cmp.Equal(v.Tags, tags) {
		t.Fatalf("parsed %+v %v, %v", v, ok, err)
	}
}

func (c *exact) hit(t *testing.T, version int64, value string, tags []string) {
	t.Helper()
	g, err := c.s.Get(t.Context(), c.key, "other")
	if d := cmp.Diff(lane.GetReply{Status: lane.GetHit, Version: version, Value: []byte(value), Tags: tags, Root: longestRoot}, g); err != nil || d != "" {
		t.Fatal(err, d)
	}
}

// TestFullEmitTwice: the greatest emission, sent twice, leaves the same floors, values and watermark.
func TestFullEmitTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		s := created(t, rdb, lane.Config{Namespace: ns})
		e := lane.Emission{Source: "s/1/0", From: 0, To: 9}
		for i := range lane.MaxKeys {
			e.Items = append(e.Items, lane.Item{Key: fmt.Sprint("k", i), Version: lane.PrimaryOnly - 1})
			e.Tags = append(e.Tags, fmt.Sprint("tag", i))
		}
		var floors map[string]string
		for i := range 2 {
			if r, err := s.Emit(t.Context(), 0, longestRoot, 0, e); err != nil || r.Status != lane.OK {
				t.Fatal(r, err)
			}
			got := rdb.HGetAll(t.Context(), s.Keys(0).Floors1).Val()
			if f0 := rdb.HGetAll(t.Context(), s.Keys(0).Floors0).Val(); i == 1 {
				got = f0 // the first two emits of a lane go to different hashes: both are empty
			}
			if floors != nil && !cmp.Equal(floors, got) {
				t.Error(cmp.Diff(floors, got))
			}
			floors = got
		}
		if len(floors) != lane.MaxKeys+1 {
			t.Errorf("%d floors", len(floors))
		}
		for _, it := range e.Items {
			if g, err := s.Get(t.Context(), it.Key, "t"); err != nil || g.Floor != lane.PrimaryOnly-1 {
				t.Fatal(g, err)
			}
		}
		st, err := s.State(t.Context(), 0, []string{"s/1/0", "s/1/1"}, []string{"users"})
		want := lane.State{
			Exists: true, Root: longestRoot, Last: "9007199254740002-281474976710655", Lanes: 1,
			Watermarks: map[string]int64{"s/1/0": 9}, Hashes: map[string]string{},
		}
		if d := cmp.Diff(want, st); err != nil || d != "" {
			t.Error(err, d)
		}
		e.Items = append(e.Items, lane.Item{Key: "one more"})
		if _, err := s.Emit(t.Context(), 0, longestRoot, 0, e); err == nil {
			t.Error("101 keys were accepted")
		}
	})
}

// TestFramesChain: what subscribers get is, in order, what the stream holds, and every frame names the one before.
func TestFramesChain(t *testing.T) {
	srv := testenv.Redis(t)
	rdb := srv.Client(t)
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded ", sharded), func(t *testing.T) {
			s := scripts(t, rdb, lane.Config{Namespace: srv.Namespace(t), Sharded: sharded})
			subscribe := rdb.Subscribe
			if sharded {
				subscribe = rdb.SSubscribe
			}
			ps := subscribe(t.Context(), s.Keys(0).Channel)
			t.Cleanup(func() {
				if err := ps.Close(); err != nil {
					t.Error(err)
				}
			})
			if _, err := ps.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			root, err := s.Root(t.Context(), 0, lane.RootRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range int64(5) {
				e := lane.Emission{Source: "s/1/0", From: i, To: i, Items: []lane.Item{{Key: "a", Version: i + 1}}}
				if r, err := s.Emit(t.Context(), 0, root.Root, 0, e); err != nil || r.Status != lane.OK {
					t.Fatal(r, err)
				}
			}
			prev := lane.First
			for i := range int64(6) {
				m, err := ps.ReceiveMessage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				f, err := lane.ParseFrame(m.Payload)
				if err != nil || f.Prev != prev || f.Payload.Flush != (i == 0) || i > 0 && f.Payload.Items[0].Version != i {
					t.Fatalf("frame %d: %+v, %v", i, f, err)
				}
				prev = f.ID
			}
		})
	}
}

// collect reads the IDs after from, and looks whether the payloads belong to them.
func collect(t *testing.T, s *lane.Scripts, from string, limit int) (ids []string, err error) {
	t.Helper()
	err = s.Range(t.Context(), 0, from, limit, func(e lane.Entry) {
		if seq, _, _ := lane.SplitID(e.ID); e.Err == nil && uint64(e.Payload.To) != seq-2 {
			t.Errorf("entry %s covers %d", e.ID, e.Payload.To)
		}
		ids = append(ids, e.ID)
	})
	return ids, err
}

func TestRange(t *testing.T) {
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		s := scripts(t, rdb, lane.Config{Namespace: ns})
		root, err := s.Root(t.Context(), 0, lane.RootRequest{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.State(t.Context(), 0, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{st.Last}
		for i := range int64(300) { // more than two pages
			r, err := s.Emit(t.Context(), 0, root.Root, 0, lane.Emission{Source: "s/1/0", From: i, To: i, Tags: []string{"t"}})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
		for _, i := range []int{0, 1, 45, 46, 47, 172, 173, 174, 299, 300} {
			got, err := collect(t, s, ids[i], 300)
			if d := cmp.Diff(ids[i+1:], got, cmpopts.EquateEmpty()); err != nil || d != "" {
				t.Fatal(i, err, d)
			}
		}
		if got, err := collect(t, s, ids[0], 299); !errors.Is(err, lane.ErrBehind) || len(got) != 299 {
			t.Errorf("%d entries, %v", len(got), err)
		}
		seq, _, _ := lane.SplitID(ids[7])
		for _, from := range []string{fmt.Sprintf("%d-1", seq), "9000-1"} { // right seq and wrong nonce; beyond the end
			if got, err := collect(t, s, from, 300); !errors.Is(err, lane.ErrGap) || len(got) != 0 {
				t.Errorf("from %s: %d entries, %v", from, len(got), err)
			}
		}
		if err := rdb.XTrimMaxLen(t.Context(), s.Keys(0).Stream, 10).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := collect(t, s, ids[7], 300); !errors.Is(err, lane.ErrGap) {
			t.Errorf("trimmed: got %v", err)
		}
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: s.Keys(0).Stream, ID: "900-1", Values: []string{"other", "x"}}).Err(); err != nil {
			t.Fatal(err)
		}
		var last lane.Entry
		if err := s.Range(t.Context(), 0, ids[300], 300, func(e lane.Entry) { last = e }); err != nil || last.ID != "900-1" || !errors.Is(last.Err, lane.ErrMalformed) {
			t.Errorf("foreign entry: %+v, %v", last, err)
		}
	})
}

func TestFillRefusals(t *testing.T) {
	s := scripts(t, nil, lane.Config{Namespace: "n"}) // no client: nothing may be sent
	for name, r := range map[string]lane.FillRequest{
		"no token":       {Key: "a"},
		"long token":     {Key: "a", Token: strings.Repeat("x", lane.MaxToken+1)},
		"negative":       {Key: "a", Token: "t", Version: -1},
		"2^53-1":         {Key: "a", Token: "t", Version: lane.PrimaryOnly},
		"nine tags":      {Key: "a", Token: "t", Tags: strings.Split("abcdefghi", "")},
		"empty tag":      {Key: "a", Token: "t", Tags: []string{""}},
		"tag with break": {Key: "a", Token: "t", Tags: []string{"a\nb"}},
		"long tag":       {Key: "a", Token: "t", Tags: []string{strings.Repeat("x", lane.MaxKeyBytes+1)}},
	} {
		if f, err := s.Fill(t.Context(), r); !errors.Is(err, lane.ErrFill) || f != 0 {
			t.Errorf("%s: got %v, %v", name, f, err)
		}
	}
	if _, err := s.Get(t.Context(), "a", ""); !errors.Is(err, lane.ErrFill) {
		t.Errorf("get without a token: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := lane.New(nil, lane.Config{Namespace: "A"}); !errors.Is(err, lane.ErrNamespace) {
		t.Errorf("got %v", err)
	}
	for _, cfg := range []lane.Config{{Lanes: -1}, {StreamLen: -1}, {MaxTags: -1}, {LeaseTTL: -time.Second}} {
		cfg.Namespace = "a"
		if _, err := lane.New(nil, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// TestScriptsReload: a Redis that forgot its scripts gets them again.
func TestScriptsReload(t *testing.T) {
	srv := testenv.StartRedis(t, testenv.RedisOptions{})
	rdb := srv.Client(t)
	s := created(t, rdb, lane.Config{Namespace: "reload"})
	for range 2 {
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if g, err := s.Get(t.Context(), "a", "t"); err != nil || g.Status != lane.GetLease {
			t.Fatal(g, err)
		}
	}
}

// TestForeignReply: an answer that the protocol does not know is an error and nothing else.
func TestForeignReply(t *testing.T) {
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		s := created(t, rdb, lane.Config{Namespace: ns})
		if err := rdb.HSet(t.Context(), s.Keys(0).Meta, "lanes", "many", "wm:s", "x").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.State(t.Context(), 0, nil, nil); !errors.Is(err, lane.ErrReply) {
			t.Errorf("got %v", err)
		}
	})
}
