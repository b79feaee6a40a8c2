package invalidation

import "errors"

// rescue gives the entry that may be served instead of f's error: one that nothing is known to have made stale, neither to
// this node nor to the shared tier if it answered, and that is not further past its TTL, nor its lane longer without proof,
// than StaleIfError.
func (c *Cache[V]) rescue(f *flight[V]) *entry[V] {
	select {
	case <-f.done:
	default:
		return nil // its reader gave up, it did not
	}
	if f.err == nil || errors.Is(f.err, ErrClosed) {
		return nil
	}
	return c.spare(f)
}

// spare returns the entry that StaleIfError lets serve in place of f, or nil.
func (c *Cache[V]) spare(f *flight[V]) *entry[V] {
	if c.cfg.StaleIfError == 0 || c.node.ctx.Err() != nil {
		return nil
	}
	e, ok := c.stored(f.name)
	if !ok || e.version < f.floor.Load() || !c.usable(e) {
		return nil
	}
	now, confirm, bound := c.node.now(), f.lane.view.confirm.Load(), int64(c.cfg.StaleIfError)
	if confirm == 0 || now-confirm > bound || now-e.expires > bound {
		return nil
	}
	c.stats.staleServed.Add(1)
	return e
}
