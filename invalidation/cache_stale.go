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
	if c.cfg.StaleIfError == 0 || f.err == nil || errors.Is(f.err, ErrClosed) {
		return nil
	}
	e, ok := c.stored(f.name)
	if !ok || e.version < f.floor || !c.usable(e) {
		return nil
	}
	now, confirm, bound := c.node.now(), f.lane.view.confirm.Load(), int64(c.cfg.StaleIfError)
	if confirm == 0 || now-confirm > bound || now-e.expires > bound {
		return nil
	}
	c.stats.staleServed.Add(1)
	return e
}
