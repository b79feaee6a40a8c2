// Package outbox holds services in other languages that write an event into the outbox with the change of its record, in one
// transaction. It has no Go of its own but the tests, which run each beside a relay.
package outbox
