package kafkalog

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// on asks the broker at addr. With Config.KeepIdle it uses a connection of an earlier question if there is one, which may have ended:
// then fn is called once more, with a new one.
func (c *Client) on(ctx context.Context, addr string, fn func(*conn) error) error {
	if c.kept == nil {
		k, err := c.dial(ctx, addr)
		if err != nil {
			return err
		}
		defer func() { _ = k.close() }()
		return fn(k)
	}
	for {
		c.kept.prune(time.Now().Add(-c.cfg.KeepIdle))
		l, err := c.kept.get(ctx, addr)
		if err != nil {
			return err
		}
		err = fn(l.k)
		if answered(err) {
			l.keep()
			return err
		}
		l.drop()
		if !l.reused || ctx.Err() != nil {
			return err
		}
		c.kept.prune(time.Now()) // they are not younger than the one that ended
	}
}

// onAny is on for any broker that can be reached, beginning with another one each time.
func (c *Client) onAny(ctx context.Context, fn func(*conn) error) error {
	if c.kept == nil {
		k, err := c.bootstrap(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = k.close() }()
		return fn(k)
	}
	return c.reach(ctx, func(addr string) (reached bool, err error) {
		err = c.on(ctx, addr, func(k *conn) error {
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
