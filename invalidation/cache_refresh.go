package invalidation

import "context"

// refresh begins a fill of an entry that is read often and soon ends, if no other is under way and not too many are. It is
// a fill like that of a reader, under the same lease and the same guards, only that nobody waits for it.
func (c *Cache[V]) refresh(ctx context.Context, key string, e *entry[V], now int64) {
	at := e.early.Load()
	if now < at || int(e.reads.Add(1)) < c.cfg.RefreshReads {
		return
	}
	// One reader wins. If the fill fails, half of what is left passes before the next one.
	if !e.early.CompareAndSwap(at, now+(e.expires-now)/2+1) {
		return
	}
	e.reads.Store(0)
	select {
	case c.refreshing <- struct{}{}:
	default:
		c.stats.refreshesSkipped.Add(1)
		return
	}
	f := c.embark(key)
	if f == nil {
		<-c.refreshing
		return
	}
	c.stats.refreshes.Add(1)
	go c.runRefresh(context.WithoutCancel(ctx), f)
}

func (c *Cache[V]) runRefresh(ctx context.Context, f *flight[V]) {
	defer func() { <-c.refreshing }()
	defer func() { // also if the loader leaves its goroutine
		if f.panicked != "" {
			c.warn(warnPanic, nil) // its words may quote a value
		}
		if f.panicked != "" || f.err != nil {
			c.stats.refreshErrors.Add(1)
		}
	}()
	c.run(ctx, f)
}

// embark begins a flight for nobody, or gives nil if the key has one or the node is closed.
func (c *Cache[V]) embark(key string) *flight[V] {
	name, err := c.nameOf(key)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[name]; ok && c.joinable(f) || !c.node.enter() {
		return nil
	}
	return c.begin(key, name, demand{})
}
