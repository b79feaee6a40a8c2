package kafkalog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// DefaultClientID is what brokers see in their logs and quotas.
const DefaultClientID = "freshet"

// Config configures how to reach a cluster. Only Brokers is required.
type Config struct {
	// Brokers are host:port addresses to start from; the others are learned.
	Brokers []string
	// ClientID names this program to the brokers; "" means DefaultClientID.
	ClientID string
	// TLS, if not nil, encrypts every connection. An empty ServerName means the broker's host.
	TLS *tls.Config
	// GetTLS, if not nil, takes the place of TLS and is called for each new connection, so that replaced certificates and
	// authorities are used.
	GetTLS func() *tls.Config
	// SASL authenticates every connection; the zero value does not.
	SASL SASL
	// Dial, if not nil, opens every connection in its own way, such as through a proxy; TLS comes on top of it. nil means
	// plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// KeepIdle is how long a connection is kept after a question was answered, for the next one; 0 means not at all. It suits a
	// program that asks all the time. At most 8 of its questions and 8 of its readers of a range are then under way at each broker.
	KeepIdle time.Duration
	// Logger learns of what recovered; nil discards.
	Logger *slog.Logger
}

// Client knows one Kafka cluster. It keeps no connection open but those of Config.KeepIdle, and is safe for concurrent use.
type Client struct {
	cfg     Config
	log     *slog.Logger
	closed  atomic.Bool
	brokers brokerList
	// kept has connections between questions, ranges those of readers of a range; nil: none are kept.
	kept, ranges *Pool
}

// New checks the configuration. It opens no connection.
func New(cfg Config) (*Client, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("check brokers: none given; name at least one host:port")
	}
	for _, b := range cfg.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, fmt.Errorf("check broker %q: want host:port: %w", b, err)
		}
	}
	if err := cfg.SASL.check(); err != nil {
		return nil, err
	}
	cfg.Brokers = slices.Clone(cfg.Brokers)
	if cfg.ClientID == "" {
		cfg.ClientID = DefaultClientID
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Logger.With("component", "kafkalog"), brokers: brokerList{configured: cfg.Brokers}}
	if cfg.KeepIdle > 0 {
		c.kept, c.ranges = NewPool(c), NewPool(c)
	}
	return c, nil
}

// Close closes the idle connections and lets no new connection be made. It may be called twice.
func (c *Client) Close() error {
	if !c.closed.Swap(true) && c.kept != nil {
		c.kept.Close()
		c.ranges.Close()
	}
	return nil
}

// Logger returns the logger of Config, for what is built on the client.
func (c *Client) Logger() *slog.Logger { return c.log }

// bootstrap connects to any broker that answers, beginning with another one each time.
func (c *Client) bootstrap(ctx context.Context) (k *Conn, err error) {
	err = c.brokers.reach(ctx, func(addr string) (bool, error) {
		k, err = c.Dial(ctx, addr)
		return err == nil, err
	})
	return k, err
}

// open connects to addr, with TLS if it is configured.
func (c *Client) open(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := c.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	}
	nc, err := dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("dial broker %s: %w", addr, err)
	}
	cfg := c.cfg.TLS
	if c.cfg.GetTLS != nil {
		cfg = c.cfg.GetTLS()
	}
	if cfg == nil {
		return nc, nil
	}
	if nc, err = startTLS(ctx, nc, addr, cfg); err != nil {
		return nil, fmt.Errorf("start TLS with broker %s: %w", addr, err)
	}
	return nc, nil
}

// startTLS takes over nc, also when it fails.
func startTLS(ctx context.Context, nc net.Conn, addr string, cfg *tls.Config) (net.Conn, error) {
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _ = splitAddr(addr)
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return tc, nil
}

// on asks the broker at addr. With Config.KeepIdle it uses a connection of an earlier question if there is one, which may have ended:
// then fn is called once more, with a new one.
func (c *Client) on(ctx context.Context, addr string, fn func(*Conn) error) error {
	if c.kept == nil {
		k, err := c.Dial(ctx, addr)
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		return fn(k)
	}
	for {
		c.kept.Prune(time.Now().Add(-c.cfg.KeepIdle))
		l, err := c.kept.Get(ctx, addr)
		if err != nil {
			return err
		}
		err = fn(l.Conn)
		if answered(err) {
			l.Keep()
			return err
		}
		l.Drop()
		if !l.reused || ctx.Err() != nil {
			return err
		}
		c.kept.Prune(time.Now()) // they are not younger than the one that ended
	}
}

// onAny is on for any broker that can be reached, beginning with another one each time.
func (c *Client) onAny(ctx context.Context, fn func(*Conn) error) error {
	if c.kept == nil {
		k, err := c.bootstrap(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		return fn(k)
	}
	return c.brokers.reach(ctx, func(addr string) (reached bool, err error) {
		err = c.on(ctx, addr, func(k *Conn) error {
			err := fn(k)
			reached = answered(err) // a kept connection may be to a broker that went away
			return err
		})
		return reached, err
	})
}

// answered reports whether a connection is in order after a question that ended with err: it was answered, perhaps with an error code.
func answered(err error) bool {
	var code kafka.Error
	return err == nil || errors.As(err, &code)
}
