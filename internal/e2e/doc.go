// Package e2e holds the end-to-end tests: the real binary as worker processes, real Kafka, MariaDB and Redis, nodes with
// caches in the test process, and the path of a change from Publish to every copy. It has no code of its own.
package e2e
