package invalidation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrNotBuilt comes, wrapped, when a configuration asks for something that this release does not have.
var ErrNotBuilt = errors.New("not built yet")

// dialTimeout bounds one attempt to connect: a lane that is away must be noticed before anything is stale.
const dialTimeout = time.Second

// slotsInterval is how old a cluster's map of slots may be. Redirections and failures read it again at once.
const slotsInterval = 10 * time.Second

// checkClient refuses a client that lanes cannot work over: a sync or a shared entry that is read from a replica would
// confirm the past.
func checkClient(rdb redis.UniversalClient) error {
	switch c := rdb.(type) {
	case *redis.Client:
		if c != nil {
			return nil
		}
	case *redis.ClusterClient:
		if c == nil {
			break
		}
		if o := c.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return fmt.Errorf("this Redis Cluster client reads from replicas: %w: leave ReadOnly, RouteByLatency and RouteRandomly off", ErrUnfit)
		}
		return nil
	case *redis.Ring:
		return fmt.Errorf("lanes over a Redis Ring client: %w: use Redis Cluster, or one Redis", ErrNotBuilt)
	case nil:
	default:
		return fmt.Errorf("lanes over a %T: %w: use a *redis.Client or a *redis.ClusterClient", rdb, ErrNotBuilt)
	}
	return errors.New("no Redis client given: pass a *redis.Client or a *redis.ClusterClient")
}

// clientRole is what one of our own clients is for.
type clientRole struct {
	// name is a part of the connection's name in CLIENT LIST: freshet-<name>-<id>.
	name string
	// timeout bounds one read and one write.
	timeout time.Duration
	// retries is how often go-redis sends a command again by itself.
	retries int
	// pool is the greatest number of connections.
	pool int
}

// dedicated makes a client to the same Redis as c, which checkClient accepted, with the settings that a role needs. What
// the service set for the way there (TLS, user, dialer, database, Sentinels) is kept; c itself is left unchanged. The
// caller closes it. A client behind Sentinel has a dialer that asks the Sentinels, and the copy dials by it too.
func dedicated(c redis.UniversalClient, r clientRole) redis.UniversalClient {
	if cluster, ok := c.(*redis.ClusterClient); ok {
		o := *cluster.Options()
		o.NewClient = func(opts *redis.Options) *redis.Client {
			r.settle(opts)
			node := cluster.Options().NewClient(opts) // perhaps the service's own, which adds hooks
			if r.retries == 0 {
				node.AddHook(sendOnce{})
			}
			return node
		}
		o.ClusterStateReloadInterval = slotsInterval
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		o.PushNotificationProcessor, o.AutoPipelineOptions = nil, nil
		return redis.NewClusterClient(&o)
	}
	o := *c.(*redis.Client).Options()
	r.settle(&o)
	return redis.NewClient(&o)
}

// settle returns o what the role needs.
func (r clientRole) settle(o *redis.Options) {
	if dial := o.Dialer; dial != nil {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return dial(ctx, network, addr)
		}
	}
	o.DialTimeout, o.DialerRetries = dialTimeout, 1
	o.ClientName = "freshet-" + r.name + "-" + randomHex(4)
	o.Protocol = 2 // RESP3 pushes have cost messages
	o.ContextTimeoutEnabled = true
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = r.timeout, r.timeout, r.timeout+time.Second
	// The options of a client in use have 0 for "none", which would mean "the default" to a new one.
	o.MaxRetries = r.retries
	if r.retries == 0 {
		o.MaxRetries = -1
	}
	o.MinRetryBackoff, o.MaxRetryBackoff = 0, 0
	o.PoolSize, o.MaxConcurrentDials, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = r.pool, 0, 0, 0, 0
	o.PipelinePoolSize = -1
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.PushNotificationProcessor = nil
	o.AutoPipelineOptions = nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.ClientSideCacheInvalidationBatchWindow = 0
}

// unsure is a command's error that says nothing of whether it ran. It hides what it stands for: a cluster client sends
// again what fails by the network, whatever its settings, and an emit that is sent again after a fail-over would carry
// the same entry ID into another history.
type unsure struct{ err error }

func (e unsure) Error() string { return e.err.Error() }

// sendOnce is the hook of a cluster's node clients that makes such errors.
type sendOnce struct{}

// DialHook changes nothing.
func (sendOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook hides what could be sent again.
func (sendOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := hide(next(ctx, cmd))
		cmd.SetErr(err)
		return err
	}
}

// ProcessPipelineHook is ProcessHook for pipelines.
func (sendOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := hide(next(ctx, cmds))
		for _, c := range cmds {
			c.SetErr(hide(c.Err()))
		}
		return err
	}
}

// hide leaves what Redis itself said, and that a connection could not be made: then nothing was sent.
func hide(err error) error {
	var said redis.Error
	var op *net.OpError
	if err == nil || errors.As(err, &said) || errors.As(err, &op) && op.Op == "dial" {
		return err
	}
	return unsure{err}
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}
