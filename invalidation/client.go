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

// failoverAddr is what go-redis writes for the address of a client that asks Sentinel at each dial.
const failoverAddr = "FailoverClient"

// standalone gives the client of a single Redis, or says what was given instead.
func standalone(rdb redis.UniversalClient) (*redis.Client, error) {
	switch c := rdb.(type) {
	case nil:
		return nil, errors.New("no Redis client given: pass a *redis.Client")
	case *redis.Client:
		if c == nil {
			return nil, errors.New("no Redis client given: pass a *redis.Client")
		}
		if c.Options().Addr == failoverAddr {
			return nil, fmt.Errorf("lanes over a Redis Sentinel client: %w: give the master's address to a plain *redis.Client", ErrNotBuilt)
		}
		return c, nil
	case *redis.ClusterClient:
		return nil, fmt.Errorf("lanes over a Redis Cluster client: %w: use one Redis and a plain *redis.Client", ErrNotBuilt)
	case *redis.Ring:
		return nil, fmt.Errorf("lanes over a Redis Ring client: %w: use one Redis and a plain *redis.Client", ErrNotBuilt)
	default:
		return nil, fmt.Errorf("lanes over a %T: %w: use a plain *redis.Client", rdb, ErrNotBuilt)
	}
}

// clientRole says what one of our own clients is for.
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

// dedicated makes a client to the same Redis as c with the settings that a role needs. What the service set for the way
// there (TLS, user, dialer, database) is kept; c itself is left as it is. The caller closes it.
func dedicated(c *redis.Client, r clientRole) *redis.Client {
	o := *c.Options()
	dial := o.Dialer
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, addr)
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
	return redis.NewClient(&o)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}
