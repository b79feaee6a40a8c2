package invalidation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// journal keeps what a node logs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// warnings are its lines of that level.
func (j *journal) warnings() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, "level=WARN") {
			out = append(out, line)
		}
	}
	return out
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// user makes a client of the rig's server for a user with these rights.
func (r *rig) user(rights ...any) *redis.Client {
	r.t.Helper()
	admin := r.server.Client(r.t)
	check(r.t, admin.Do(r.t.Context(), append([]any{"ACL", "SETUSER", "node", "reset", "on", ">pw", "~*", "&*", "+@all"}, rights...)...).Err())
	o := *admin.Options()
	o.Username, o.Password = "node", "pw"
	return r.clientOf(&o)
}

func (r *rig) clientOf(o *redis.Options) *redis.Client {
	r.t.Helper()
	rdb := redis.NewClient(o)
	r.t.Cleanup(func() { check(r.t, rdb.Close()) })
	return rdb
}

// tunnel is a hook that leads connections to where the options do not.
type tunnel struct{ to string }

func (h tunnel) DialHook(redis.DialHook) redis.DialHook {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", h.to)
	}
}
func (tunnel) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (tunnel) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Whatever keeps a node from caching is said once in its log with what to do about it, and in NotReady; the list of all nodes has it
// as well, if the node can tell them.
func TestNodeSaysWhyItDoesNotCache(t *testing.T) {
	t.Parallel()
	loads := func(change func(*invalidation.Loaded[string])) func(r *rig, n *invalidation.Node) func() {
		return func(r *rig, n *invalidation.Node) func() {
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
				l, err := r.db.load(ctx, key, from)
				change(&l)
				return l, err
			}})
			r.change("1")
			r.change("1")
			r.change("1")
			return func() { get(r.t, c, "1") }
		}
	}
	absent := func(r *rig, n *invalidation.Node) func() {
		c, i := r.cache(n), 0
		return func() {
			i++
			_, err := c.Get(r.t.Context(), fmt.Sprint("absent", i))
			if !errors.Is(err, invalidation.ErrNotFound) {
				r.t.Errorf("Get: %v", err)
			}
		}
	}
	for name, tc := range map[string]struct {
		hashes map[string]string // of the lane; nil: those of the declarations
		cfg    invalidation.Config
		client func(r *rig) redis.UniversalClient
		reads  func(r *rig, n *invalidation.Node) func()
		want   []string
		hidden bool // it cannot tell anybody else
		late   bool // the lane is made after it joined
	}{
		"other dataset file":    {hashes: map[string]string{"users": "another"}, want: []string{"dataset users", "differs from the workers'", "same dataset files"}},
		"dataset not declared":  {hashes: map[string]string{"orders": "h"}, want: []string{"dataset users", "no cache section", "correct Config.Namespace"}},
		"other namespace":       {cfg: invalidation.Config{Namespace: "elsewhere"}, want: []string{"does not exist", "elsewhere", "correct Config.Namespace"}},
		"other number of lanes": {late: true, cfg: invalidation.Config{Lanes: 3}, want: []string{"another number of lanes", "Config.Lanes is 3"}},
		"no version":            {reads: loads(func(l *invalidation.Loaded[string]) { l.Version = 0 }), want: []string{"dataset users", "returns no version", "Loaded.Version"}},
		"low version":           {reads: loads(func(l *invalidation.Loaded[string]) { l.Version-- }), want: []string{"dataset users", "returns version 2", "version 3", "_version"}},
		"wrong password": {client: func(r *rig) redis.UniversalClient {
			o := *r.user().Options()
			o.Password = "another"
			return r.clientOf(&o)
		}, hidden: true, want: []string{"WRONGPASS", "correct the user name and the password"}},
		"no channel":        {client: func(r *rig) redis.UniversalClient { return r.user("resetchannels", "&*nodes*") }, want: []string{"NOPERM", "cannot be subscribed to", "ACL SETUSER"}},
		"no scripts":        {client: func(r *rig) redis.UniversalClient { return r.user("-evalsha", "-eval") }, want: []string{"NOPERM", "cannot be read", "ACL SETUSER"}},
		"no shared entries": {client: func(r *rig) redis.UniversalClient { return r.user("-getrange") }, reads: absent, want: []string{"shared entries cannot be read", "ACL SETUSER"}},
		"no presence":       {client: func(r *rig) redis.UniversalClient { return r.user("-sadd") }, hidden: true, want: []string{"NOPERM", "does not show this node", "ACL SETUSER"}},
		"hooks": {client: func(r *rig) redis.UniversalClient {
			rdb := r.clientOf(&redis.Options{Addr: "127.0.0.1:1"})
			rdb.AddHook(tunnel{r.server.Addr})
			return rdb
		}, hidden: true, want: []string{"cannot be subscribed to", "none of its hooks", "Dialer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, testenv.StartRedis(t, testenv.RedisOptions{}))
			if !tc.late {
				r.setRoot(tc.hashes)
			}
			log := &journal{}
			cfg, rdb := tc.cfg, r.rdb
			cfg.Logger, cfg.JoinWait = log.logger(), 100*time.Millisecond
			if tc.client != nil {
				rdb = tc.client(r)
			}
			n := r.joinAs(rdb, cfg)
			if tc.late {
				r.setRoot(tc.hashes)
			}
			read := func() {}
			if tc.reads != nil {
				read = tc.reads(r, n)
			}
			missing := func(texts ...string) error {
				for _, want := range tc.want {
					for _, text := range texts {
						if !strings.Contains(text, want) {
							return fmt.Errorf("nothing about %q in %q", want, text)
						}
					}
				}
				return nil
			}
			testenv.Eventually(t, patience, func(ctx context.Context) error {
				read()
				if err := missing(strings.Join(n.NotReady(), "\n"), strings.Join(log.warnings(), "")); err != nil || tc.hidden {
					return err
				}
				nodes, err := invalidation.Nodes(ctx, r.rdb, r.ns)
				if len(nodes) == 0 {
					nodes, err = invalidation.Strays(ctx, r.rdb, r.ns)
				}
				if err != nil || len(nodes) != 1 {
					return fmt.Errorf("%d nodes: %w", len(nodes), err)
				}
				return missing(strings.Join(nodes[0].NotReady, "\n"))
			})
			end := time.Now().Add(20 * pollInterval)
			testenv.Eventually(t, patience, func(context.Context) error { // the node looks at itself that often again
				read()
				if left := time.Until(end); left > 0 {
					return fmt.Errorf("%s left", left)
				}
				return nil
			})
			if got := log.warnings(); len(got) != 1 {
				t.Errorf("%d warnings, want one:\n%s", len(got), strings.Join(got, ""))
			}
		})
	}
}
