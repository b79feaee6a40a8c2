package lane_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

// step is one call of a scenario; testdata/vectors/README.md reports what the members mean.
type step struct {
	Lane int
	Root *struct {
		Expected, Source, Group string
		Nonce                   uint64
		Watermark               int64
		Back                    bool
		HoldMS                  int64 `json:"hold_ms"`
		Hashes                  map[string]string
	}
	Emit *struct {
		Root, Source    string
		Start, From, To int64
		Nonce           uint64
		Keys            [][2]any
		Tags            []string
		Keep            bool
	}
	Get  *struct{ Key, Token string }
	Fill *struct {
		Key, Token, Value string
		Version           int64
		Tags              []string
		Primary           bool
	}
	Redis []string
	Want  []string
}

type scenario struct {
	Name   string
	Lanes  int
	HoldMS *int64 `json:"hold_ms"`
	Steps  []step
}

// player runs scenarios.
type player struct {
	rdb   *redis.Client
	s     *lane.Scripts
	ns    string
	nonce uint64
}

func TestScriptVectors(t *testing.T) {
	onBoth(t, func(t *testing.T, rdb *redis.Client, ns string) {
		for i, sc := range vectors[scenario](t, "scripts.json") {
			t.Run(sc.Name, func(t *testing.T) {
				p := &player{rdb: rdb, ns: fmt.Sprintf("%s.%d", ns, i)}
				cfg := lane.Config{Namespace: p.ns, Lanes: sc.Lanes, Nonce: func() uint64 { return p.nonce }}
				if sc.HoldMS != nil {
					cfg.Hold = time.Duration(*sc.HoldMS) * time.Millisecond
					if cfg.Hold == 0 {
						cfg.Hold = -1
					}
				}
				p.s = scripts(t, rdb, cfg)
				for j, st := range sc.Steps {
					want := make([]string, len(st.Want))
					for k := range want {
						want[k] = unbase64(t, st.Want[k])
					}
					got, err := p.play(t, st)
					if d := cmp.Diff(want, got); err != nil || d != "" {
						t.Fatalf("step %d %+v: %v\n%s", j, st, err, d)
					}
				}
			})
		}
	})
}

func (p *player) play(t *testing.T, st step) ([]string, error) {
	t.Helper()
	ctx := t.Context()
	switch {
	case st.Root != nil:
		p.nonce = st.Root.Nonce
		r, err := p.s.Root(ctx, st.Lane, lane.RootRequest{
			Expected: st.Root.Expected, Source: st.Root.Source, Watermark: st.Root.Watermark, Back: st.Root.Back,
			HoldMillis: st.Root.HoldMS, Group: st.Root.Group, Hashes: st.Root.Hashes,
		})
		return []string{map[lane.Status]string{lane.OK: "OK", lane.RootChanged: "ROOT"}[r.Status], r.Root}, err
	case st.Emit != nil:
		return p.emit(t, st)
	case st.Get != nil:
		g, err := p.s.Get(ctx, st.Get.Key, st.Get.Token)
		floor := strconv.FormatInt(g.Floor, 10)
		switch g.Status {
		case lane.GetHit:
			return []string{"HIT", strconv.FormatInt(g.Version, 10), string(g.Value), strings.Join(g.Tags, ","), g.Root}, err
		case lane.GetLease:
			return []string{"LEASE", floor, g.Root}, err
		case lane.GetBusy:
			return []string{"BUSY", floor}, err
		case lane.GetNoLane:
			return []string{"NOLANE"}, err
		}
		return nil, err
	case st.Fill != nil:
		f, err := p.s.Fill(ctx, lane.FillRequest{
			Key: st.Fill.Key, Token: st.Fill.Token, Version: st.Fill.Version, Value: []byte(unbase64(t, st.Fill.Value)),
			Tags: st.Fill.Tags, Primary: st.Fill.Primary,
		})
		return []string{map[lane.FillStatus]string{lane.FillOK: "OK", lane.FillLost: "LOST", lane.FillStale: "STALE", lane.FillPrimary: "PRIMARY"}[f]}, err
	}
	return p.plain(t, st.Redis)
}

func (p *player) emit(t *testing.T, st step) ([]string, error) {
	t.Helper()
	e := st.Emit
	p.nonce = e.Nonce
	em := lane.Emission{Source: e.Source, From: e.From, To: e.To, Tags: e.Tags, Keep: e.Keep}
	for _, k := range e.Keys {
		em.Items = append(em.Items, lane.Item{Key: k[0].(string), Version: int64(k[1].(float64))})
	}
	r, err := p.s.Emit(t.Context(), st.Lane, e.Root, e.Start, em)
	switch r.Status {
	case lane.OK:
		return []string{"OK", r.ID}, err
	case lane.RootChanged:
		return []string{"ROOT", r.Root}, err
	case lane.Regressed:
		return []string{"REGRESSED", strconv.FormatInt(r.Next, 10)}, err
	}
	return nil, err
}

// plain runs a Redis command and flattens its reply.
func (p *player) plain(t *testing.T, cmd []string) ([]string, error) {
	t.Helper()
	args := make([]any, len(cmd))
	for i, a := range cmd {
		for n := range 2 {
			a = strings.ReplaceAll(a, "$"+strconv.Itoa(n), fmt.Sprintf("{fr:%s:%d}", p.ns, n))
		}
		args[i] = a
	}
	v, err := p.rdb.Do(t.Context(), args...).Result()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	var out []string
	var flat func(v any)
	flat = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				flat(x)
			}
		case nil:
			out = append(out, "(nil)")
		default:
			out = append(out, fmt.Sprint(v))
		}
	}
	flat(v)
	return out, err
}
