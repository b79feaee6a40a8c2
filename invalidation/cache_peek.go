package invalidation

// Peek gives what Get would serve from this process's memory just now, and false if Get would have to ask elsewhere. It
// loads nothing and counts nothing. A record that is known not to exist has Found false.
func (c *Cache[V]) Peek(key string) (Loaded[V], bool) {
	name, err := c.nameOf(key)
	if err != nil {
		return Loaded[V]{}, false
	}
	e, ok := c.stored(name)
	if !ok || !c.good(e, c.node.now()) {
		return Loaded[V]{}, false
	}
	return Loaded[V]{Value: e.value, Version: e.version, Found: e.found, Tags: e.tags}, true
}

// held is Peek for those who look at the node from outside: by cache key, without the value, and also what is not served.
func (c *Cache[V]) held(name string) (Held, bool) {
	e, ok := c.stored(name)
	if !ok {
		return Held{}, false
	}
	return Held{Name: name, Version: e.version, Found: e.found, Served: c.good(e, c.node.now())}, true
}
