// Package api has the JSON types of the admin API, for servers and clients. It reaches no server: what a type holds is data.
package api

import (
	"time"

	"github.com/freshet/freshet/schemas"
)

// Instant returns a stored or received Unix time in ms as the API shows it: in UTC, within what JSON can carry.
func Instant(ms int64) time.Time { return time.UnixMilli(schemas.ClampTime(ms)).UTC() }
