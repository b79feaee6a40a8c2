package invalidation

// Peek gives what Get would serve from this process's memory just now, and false if Get would have to ask elsewhere. It
// loads nothing and counts nothing. A record that is known not to exist has Found false.
func (c *Cache[V]) Peek(key string) (Loaded[V], bool) {
	name, err := c.nameOf(key)
	if err != nil {
		return Loaded[V]{}, false
	}
	now, l := c.node.now(), c.node.laneOf(name)
	if !l.fresh(now) || !c.dataset.lanes[l.n].agreed.Load() {
		return Loaded[V]{}, false
	}
	e, ok := c.store.GetEntryQuietly(name)
	if !ok || now >= e.Value.expires || !c.usable(l, e.Value) {
		return Loaded[V]{}, false
	}
	v := e.Value
	return Loaded[V]{Value: v.value, Version: v.version, Found: v.found, Tags: v.tags}, true
}

// held is Peek for those who look at the node from outside: by cache key, without the value, and also what is not served.
func (c *Cache[V]) held(name string) (Held, bool) {
	e, ok := c.store.GetEntryQuietly(name)
	if !ok {
		return Held{}, false
	}
	now, l := c.node.now(), c.node.laneOf(name)
	return Held{
		Name: name, Version: e.Value.version, Found: e.Value.found,
		Served: l.fresh(now) && c.dataset.lanes[l.n].agreed.Load() && now < e.Value.expires && c.usable(l, e.Value),
	}, true
}
