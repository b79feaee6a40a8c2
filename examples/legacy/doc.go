// Package legacy holds a PHP page that caches what it rendered in Redis, and what has to change in it so that the page is
// never stale for long: one INSERT in the transaction that it has already. It has no Go of its own but the test.
package legacy
