package lane

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Config.
const (
	DefaultLanes     = 1
	DefaultStreamLen = 10_000 // what a node reads at most before forgetting everything is cheaper
	DefaultHold      = 60 * time.Second
	DefaultMaxTags   = 100_000
	DefaultLeaseTTL  = 10 * time.Second
	DefaultValueTTL  = 10 * time.Minute
)

// ErrReply: Redis answered a script or a command with something that the protocol does not know.
var ErrReply = errors.New("unexpected reply")

var (
	//go:embed emit.lua
	emitSource string
	//go:embed root.lua
	rootSource string
	//go:embed get.lua
	getSource string
	//go:embed fill.lua
	fillSource string
	//go:embed state.lua
	stateSource string
)

// Config configures how the lanes of a namespace are kept. All programs of a namespace use the same; the zero value of every
// field but Namespace works.
type Config struct {
	// Namespace is 1 to 32 of a-z, 0-9, dot, underscore, hyphen; required.
	Namespace string
	// Lanes is the namespace's fixed number of lanes; 0 means DefaultLanes.
	Lanes int
	// StreamLen bounds each lane's stream; 0 means DefaultStreamLen.
	StreamLen int
	// Hold is how long an invalidation restrains later fills by its floor: at least as long as the slowest source of
	// loads may lag. 0 means DefaultHold. Negative: none, for a namespace whose every load reads the primary.
	Hold time.Duration
	// MaxTags bounds the tag stamps of a lane; more make older tagged entries invalid. 0 means DefaultMaxTags.
	MaxTags int
	// LeaseTTL is how long a lease to fill lives, at least as long as the slowest load; 0 means DefaultLeaseTTL.
	LeaseTTL time.Duration
	// Sharded publishes with SPUBLISH; Redis 7 and every node must be able to follow.
	Sharded bool
	// Nonce returns the random part of entry IDs, 48 bits; nil means crypto/rand. It must not repeat itself: two entries
	// with equal IDs would be taken for one.
	Nonce func() uint64
}

// Client is what Scripts needs of a Redis client; *redis.Client has it.
type Client interface {
	redis.Scripter
	XRangeN(ctx context.Context, stream, start, stop string, count int64) *redis.XMessageSliceCmd
	Pipeline() redis.Pipeliner
}

// Scripts are the atomic steps of the protocol as calls to Redis. All may be called concurrently, and called again after
// an error: each script may run twice.
type Scripts struct {
	rdb                   Client
	cfg                   Config
	lanes                 []Keys
	emit, root, get, fill *redis.Script
	state                 *redis.Script
	publish               string
}

// New prepares the scripts of a namespace; it does not talk to Redis. Errors: ErrNamespace, a negative field.
func New(rdb Client, cfg Config) (*Scripts, error) {
	if err := CheckNamespace(cfg.Namespace); err != nil {
		return nil, err
	}
	if cfg.Lanes < 0 || cfg.StreamLen < 0 || cfg.MaxTags < 0 || cfg.LeaseTTL < 0 {
		return nil, fmt.Errorf("namespace %s: Lanes, StreamLen, MaxTags and LeaseTTL must not be negative", cfg.Namespace)
	}
	if cfg.Lanes > MaxLanes {
		return nil, fmt.Errorf("namespace %s: Lanes is %d, above %d", cfg.Namespace, cfg.Lanes, MaxLanes)
	}
	cfg.Lanes = cmp.Or(cfg.Lanes, DefaultLanes)
	cfg.StreamLen = cmp.Or(cfg.StreamLen, DefaultStreamLen)
	cfg.MaxTags = cmp.Or(cfg.MaxTags, DefaultMaxTags)
	cfg.LeaseTTL = cmp.Or(cfg.LeaseTTL, DefaultLeaseTTL)
	cfg.Hold = max(cmp.Or(cfg.Hold, DefaultHold), 0)
	if cfg.Nonce == nil {
		cfg.Nonce = randomNonce
	}
	s := &Scripts{
		rdb: rdb, cfg: cfg, publish: "P",
		emit: redis.NewScript(emitSource), root: redis.NewScript(rootSource),
		get: redis.NewScript(getSource), fill: redis.NewScript(fillSource),
		state: redis.NewScript(stateSource),
	}
	if cfg.Sharded {
		s.publish = "S"
	}
	for n := range cfg.Lanes {
		s.lanes = append(s.lanes, KeysOf(cfg.Namespace, n))
	}
	return s, nil
}

func randomNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:6]) // it never fails: crypto/rand ends the program instead
	return binary.LittleEndian.Uint64(b[:])
}

// Lanes is the number of lanes.
func (s *Scripts) Lanes() int { return len(s.lanes) }

// Keys are the names of lane n.
func (s *Scripts) Keys(n int) Keys { return s.lanes[n] }

// Of is the lane of a cache key.
func (s *Scripts) Of(key string) int { return Of(key, len(s.lanes)) }

// Emit runs one step of e.Source in lane n: floors and deletes, tag stamps, entry, watermark, publish, or none of them.
// e has at most MaxKeys items and MaxTags tags. With e.To = e.From−1 the watermark stays. start is the offset that the
// lane expects if it has no watermark of this source. Status: OK, RootChanged, Regressed.
func (s *Scripts) Emit(ctx context.Context, n int, root string, start int64, e Emission) (Reply, error) {
	if len(e.Items) > MaxKeys || len(e.Tags) > MaxTags {
		return Reply{}, fmt.Errorf("emit to lane %d: %d keys and %d tags are too many for one script", n, len(e.Items), len(e.Tags))
	}
	k := s.lanes[n]
	keys := make([]string, 0, 5+len(e.Items))
	keys = append(keys, k.Stream, k.Meta, k.Tags, k.Floors0, k.Floors1)
	for i := range e.Items {
		keys = append(keys, k.Value(e.Items[i].Key))
	}
	mode := "d"
	if e.Keep {
		mode = "k"
	}
	var payload []byte // empty: the watermark only
	if len(e.Items)+len(e.Tags) > 0 {
		payload = AppendPayload(make([]byte, 0, 128+48*len(keys)), &Payload{
			Source: e.Source, From: e.From, To: e.To, Time: e.Time, Items: e.Items, Tags: e.Tags, Traces: e.parents(),
		})
	}
	args := make([]any, 0, 14+len(e.Tags)+len(e.Items))
	args = append(args, root, start, e.Source, e.From, e.To, s.cfg.Nonce(), s.cfg.StreamLen, s.cfg.Hold.Milliseconds(),
		k.Channel, payload, s.publish, s.cfg.MaxTags, len(e.Tags), mode)
	for _, t := range e.Tags {
		args = append(args, t)
	}
	for i := range e.Items {
		args = append(args, comparable64(e.Items[i].Version))
	}
	f, err := s.run(ctx, s.emit, keys, args)
	if err != nil {
		return Reply{}, fmt.Errorf("emit to lane %d: %w", n, err)
	}
	r, err := reply(f)
	if err != nil {
		return Reply{}, fmt.Errorf("emit to lane %d: %w", n, err)
	}
	if r.Status == OK {
		r.ID, r.Root = r.Root, root
	}
	return r, nil
}

// Root creates lane n or flushes it, with a root of its own making. Status: OK with the new Root, RootChanged with the
// one that is there.
func (s *Scripts) Root(ctx context.Context, n int, r RootRequest) (Reply, error) {
	k := s.lanes[n]
	wm := ""
	if r.Source != "" {
		wm = strconv.FormatInt(r.Watermark, 10)
		if r.Back {
			wm = "=" + wm
		}
	}
	args := []any{
		r.Expected, s.cfg.Nonce(), s.cfg.StreamLen, k.Channel, AppendPayload(nil, &Payload{Flush: true}), s.publish,
		len(s.lanes), r.Source, wm, max(r.HoldMillis, 0),
	}
	if r.Group != "" {
		args = append(args, "grp", r.Group)
	}
	if r.PrimaryLoads {
		args = append(args, "loads", primaryLoads)
	}
	for _, d := range slices.Sorted(maps.Keys(r.Hashes)) {
		args = append(args, "d:"+d, r.Hashes[d])
	}
	f, err := s.run(ctx, s.root, []string{k.Stream, k.Meta}, args)
	if err != nil {
		return Reply{}, fmt.Errorf("set root of lane %d: %w", n, err)
	}
	out, err := reply(f)
	if err != nil {
		return Reply{}, fmt.Errorf("set root of lane %d: %w", n, err)
	}
	return out, nil
}

// run returns the script's reply as strings.
func (s *Scripts) run(ctx context.Context, sc *redis.Script, keys []string, args []any) ([]string, error) {
	v, err := sc.Run(ctx, s.rdb, keys, args...).Result()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the call and the lane
	}
	return fields(v)
}

// fields returns a script's reply as strings.
func fields(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, len(v))
		for i := range v {
			x, ok := v[i].(string)
			if !ok {
				return nil, fmt.Errorf("field %d of a script: %w", i, ErrReply)
			}
			out[i] = x
		}
		return out, nil
	}
	return nil, fmt.Errorf("%T from a script: %w", v, ErrReply)
}

// reply reads OK x, ROOT x and REGRESSED n; x of OK is left in Root.
func reply(f []string) (Reply, error) {
	if len(f) != 2 {
		return Reply{}, fmt.Errorf("%d fields from a script: %w", len(f), ErrReply)
	}
	switch f[0] {
	case "OK":
		return Reply{Status: OK, Root: f[1]}, nil
	case "ROOT":
		return Reply{Status: RootChanged, Root: f[1]}, nil
	case "REGRESSED":
		next, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return Reply{}, fmt.Errorf("next offset: %w", ErrReply)
		}
		return Reply{Status: Regressed, Next: next}, nil
	}
	return Reply{}, fmt.Errorf("status of a script: %w", ErrReply)
}
