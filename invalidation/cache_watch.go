package invalidation

import "time"

// LoadInfo tells CacheConfig.OnLoad of one call of a loader.
type LoadInfo struct {
	// Dataset and Derived are those of the cache: labels of bounded number, as metrics need them. No key is told.
	Dataset, Derived string
	// From is what was asked for.
	From Source
	// Keys is how many records: 1 for Load.
	Keys int
	// Took is how long the loader ran.
	Took time.Duration
	// Err is the loader's error; Panicked: it panicked instead of giving one.
	Err      error
	Panicked bool
}

// loading calls a loader, and tells of it whatever becomes of it.
func (c *Cache[V]) loading(from Source, keys int, call func() error) error {
	if c.cfg.OnLoad == nil {
		return call()
	}
	info := LoadInfo{Dataset: c.cfg.Dataset, Derived: c.cfg.Derived, From: from, Keys: keys, Panicked: true}
	began := time.Now()
	defer func() {
		info.Took = time.Since(began)
		c.cfg.OnLoad(info)
	}()
	info.Err = call()
	info.Panicked = false
	return info.Err
}
