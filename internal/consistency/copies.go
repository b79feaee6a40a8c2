package consistency

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// maxNames is how many names nodes are asked for at a time.
	maxNames = 100
	// valueHead has a value's header and all its tags.
	valueHead = 8 << 10
	peekWait  = time.Second
)

// Reader reads the copies of a namespace as they lie, without taking leases.
type Reader struct {
	rdb   redis.UniversalClient
	lanes *lane.Scripts
	ns    string
}

// NewReader makes a reader; lanes is the namespace's number of lanes, 0 means 1.
func NewReader(rdb redis.UniversalClient, namespace string, lanes int) (*Reader, error) {
	s, err := lane.New(rdb, lane.Config{Namespace: namespace, Lanes: lanes})
	if err != nil {
		return nil, fmt.Errorf("read copies: %w", err)
	}
	return &Reader{rdb: rdb, lanes: s, ns: namespace}, nil
}

// Look returns what the tiers hold under each name; at most 100 names.
func (r *Reader) Look(ctx context.Context, names ...string) ([]report.Copies, error) {
	if len(names) > maxNames {
		return nil, fmt.Errorf("look at copies: %d names are too many; at most %d", len(names), maxNames)
	}
	out := make([]report.Copies, len(names))
	if err := r.shared(ctx, names, out); err != nil {
		return nil, fmt.Errorf("look at shared entries: %w", err)
	}
	nodes, err := invalidation.Nodes(ctx, r.rdb, r.ns)
	if err != nil || len(nodes) == 0 {
		return out, err
	}
	answers, err := invalidation.Ask(ctx, r.rdb, r.ns, invalidation.Question{Names: names}, len(nodes), peekWait)
	for _, a := range answers {
		for i, name := range names {
			n := report.NodeCopy{Node: a.Node}
			for _, h := range a.Held {
				// Several caches of a process may hold the record: the oldest that is served counts.
				if h.Name == name && (!n.Held || h.Served && (!n.Served || h.Version < n.Version)) {
					n.Held, n.Version, n.Found, n.Served = true, h.Version, h.Found, h.Served
				}
			}
			out[i].Nodes = append(out[i].Nodes, n)
		}
	}
	return out, err
}

func (r *Reader) shared(ctx context.Context, names []string, out []report.Copies) error {
	type answer struct {
		value  *redis.StringCmd
		ttl    *redis.DurationCmd
		root   *redis.StringCmd
		floors [2]*redis.StringCmd
	}
	answers := make([]answer, len(names))
	pipe := r.rdb.Pipeline()
	for i, name := range names {
		k := r.lanes.Keys(r.lanes.Of(name))
		// The root first: a flush between the two makes a value void that is not, never the other way round.
		a := answer{root: pipe.HGet(ctx, k.Meta, "root")}
		a.value, a.ttl = pipe.GetRange(ctx, k.Value(name), 0, valueHead-1), pipe.PTTL(ctx, k.Value(name))
		a.floors = [2]*redis.StringCmd{pipe.HGet(ctx, k.Floors0, k.Value(name)), pipe.HGet(ctx, k.Floors1, k.Value(name))}
		answers[i] = a
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for i, a := range answers {
		sh := report.Shared{Name: names[i], State: "none", Floor: -1, TTL: max(0, a.ttl.Val().Seconds())}
		for _, f := range a.floors {
			if n, err := f.Int64(); err == nil {
				sh.Floor = max(sh.Floor, n)
			}
		}
		if v, ok := lane.ParseValue([]byte(a.value.Val())); ok {
			stamped, err := r.stamped(ctx, names[i], &v)
			if err != nil {
				return err
			}
			sh.State, sh.Version, sh.Valid = "value", v.Version, v.Root == a.root.Val() && !stamped
		} else if strings.HasPrefix(a.value.Val(), "L ") {
			sh.State = "lease"
		}
		out[i].Shared = sh
	}
	return nil
}

// stamped reports whether a tag of the value was invalidated after its lease.
func (r *Reader) stamped(ctx context.Context, name string, v *lane.Value) (bool, error) {
	if len(v.Tags) == 0 {
		return false, nil
	}
	fields := []string{"*"}
	for _, t := range v.Tags {
		fields = append(fields, "="+t)
	}
	stamps, err := r.rdb.HMGet(ctx, r.lanes.Keys(r.lanes.Of(name)).Tags, fields...).Result()
	if err != nil {
		return false, err
	}
	for _, s := range stamps {
		text, _ := s.(string)
		seq, _, _ := strings.Cut(text, ":")
		if n, err := strconv.ParseInt(seq, 10, 64); err == nil && n > v.Seq {
			return true, nil
		}
	}
	return false, nil
}

// Told reports whether everything below each source's offset has been emitted to the lane of a name.
func (r *Reader) Told(ctx context.Context, name string, next map[string]int64) (bool, error) {
	var sources []string
	for s := range next {
		sources = append(sources, s)
	}
	st, err := r.lanes.State(ctx, r.lanes.Of(name), sources, nil)
	if err != nil {
		return false, fmt.Errorf("look at lane: %w", err)
	}
	if !st.Exists {
		return false, nil
	}
	for s, n := range next {
		if wm, ok := st.Watermarks[s]; n > 0 && (!ok || wm < n-1) {
			return false, nil
		}
	}
	return true, nil
}
