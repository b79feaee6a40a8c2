// Package admin is Freshet's HTTP API: what the copies of a record look like on every tier, how far each partition is,
// which nodes live, dead letters, replays, publishing over HTTP, and the few things that a person may do about them.
//
// One choke point (gate) stands around the whole mux: it authenticates, looks the route up in one table of rules, limits,
// and writes the audit log. A route without a rule is refused to everybody. Nothing that comes over HTTP is a connection
// string, a path of the file system, or SQL.
package admin
