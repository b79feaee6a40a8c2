package consistency

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// Shared is the shared entry.
type Shared struct {
	Name string `json:"name" doc:"cache key"`
	// State is value, lease or none.
	State   string  `json:"state" enum:"value,lease,none"`
	Valid   bool    `json:"valid" doc:"false: no reader takes the value, since its lane was flushed or a tag of it invalidated after it"`
	Version int64   `json:"version"`
	TTL     float64 `json:"ttl_seconds"`
	// Floor is the least version that a fill may store; -1: none. MAX (2^53-1): only loads of the primary fill.
	Floor int64 `json:"floor"`
}

// NodeCopy is a node's local entry.
type NodeCopy struct {
	Node    string `json:"node"`
	Held    bool   `json:"held"`
	Version int64  `json:"version,omitempty"`
	Found   bool   `json:"found,omitempty"`
	Served  bool   `json:"served"`
}

// Copies are what the tiers hold under one cache key. A node that did not answer is not among Nodes.
type Copies struct {
	Shared Shared
	Nodes  []NodeCopy
}

// The tiers that hold copies.
const (
	TierShared = "shared"
	TierLocal  = "local"
)

// Old is a copy that readers get although the replica has a newer version; with Ahead it claims a version that the replica does not have.
type Old struct {
	Tier    string `json:"tier" enum:"shared,local"`
	Node    string `json:"node,omitempty" doc:"whose local entry it is"`
	Version int64  `json:"version" doc:"what readers get"`
	Ahead   bool   `json:"ahead,omitempty" doc:"the version is above the replica's: no change up to it removes the entry"`

	row int64 // with Ahead, what the row had then
}

// Older returns the copies that readers get and that are older than version, nodes first. It is the one place that reports what
// a stale copy is: entries without a version, leases, and what no reader takes any more are none.
func (c *Copies) Older(version int64) []Old {
	var out []Old
	for _, n := range c.Nodes {
		if n.Served && n.Version > 0 && n.Version < version {
			out = append(out, Old{Tier: TierLocal, Node: n.Node, Version: n.Version})
		}
	}
	if s := &c.Shared; s.State == "value" && s.Valid && s.Version > 0 && s.Version < version {
		out = append(out, Old{Tier: TierShared, Version: s.Version})
	}
	return out
}

// Above returns the copies that readers get and whose version is above the row's. Changes up to that version leave such a copy in place, so what
// it holds may be of any age.
func (c *Copies) Above(version int64) []Old {
	var out []Old
	for _, n := range c.Nodes {
		if n.Served && n.Version > version {
			out = append(out, Old{Tier: TierLocal, Node: n.Node, Version: n.Version, Ahead: true, row: version})
		}
	}
	if s := &c.Shared; s.State == "value" && s.Valid && s.Version > version {
		out = append(out, Old{Tier: TierShared, Version: s.Version, Ahead: true, row: version})
	}
	return out
}

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
func (r *Reader) Look(ctx context.Context, names ...string) ([]Copies, error) {
	if len(names) > maxNames {
		return nil, fmt.Errorf("look at copies: %d names are too many; at most %d", len(names), maxNames)
	}
	out := make([]Copies, len(names))
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
			n := NodeCopy{Node: a.Node}
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

func (r *Reader) shared(ctx context.Context, names []string, out []Copies) error {
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
		sh := Shared{Name: names[i], State: "none", Floor: -1, TTL: max(0, a.ttl.Val().Seconds())}
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

// Told reports whether the lane of a name has been told of everything below each source's offset.
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
