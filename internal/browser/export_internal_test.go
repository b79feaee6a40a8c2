package browser

import "time"

// Hasten makes a page give up after half a second, for tests that see it give up.
func Hasten(p *Page) { p.patience = 500 * time.Millisecond }
