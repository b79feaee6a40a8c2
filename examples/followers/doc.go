// Package followers holds nodes in other languages: caches in PHP, Node.js and Python that follow a lane as
// docs/protocol.md says. It has no Go of its own but the tests, which run each against a real Redis that loses connections,
// messages, the lane and all its data.
package followers
