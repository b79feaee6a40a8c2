// Package access has the roles of the admin API and the file of tokens that grants them.
package access

import (
	"context"
	"fmt"
	"strings"
)

// Role is what the bearer of a token may do.
type Role uint8

// The roles. Each of viewer, operator and admin may do what the one before may; publishers and followers do one thing each.
const (
	// Viewer reads states, positions and versions, but no record's content.
	Viewer Role = iota + 1
	// Operator reads content too, and pauses, invalidates, replays, redrives and discards.
	Operator
	// Admin does everything, also what replaces a whole table.
	Admin
	// Publisher publishes events and invalidations.
	Publisher
	// Follower follows what becomes stale, and does nothing else. Names and tags may be made of records' content.
	Follower
)

// String returns the role's name in the file of tokens.
func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	case Admin:
		return "admin"
	case Publisher:
		return "publisher"
	case Follower:
		return "follower"
	}
	return "none"
}

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	for r := Viewer; r <= Follower; r++ {
		if r.String() == s {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role is unknown; use %s", strings.Join(roleNames(), ", "))
}

func roleNames() []string {
	var out []string
	for r := Viewer; r <= Follower; r++ {
		out = append(out, r.String())
	}
	return out
}

// May reports whether r is enough where least is asked for.
func (r Role) May(least Role) bool {
	switch {
	case r == 0 || least == 0:
		return false
	case r == Admin:
		return true
	case least == Follower:
		return r == Follower || r == Operator
	case r == Publisher || r == Follower || least == Publisher:
		return r == least
	}
	return r >= least
}

// Principal is who makes a request.
type Principal struct {
	// Name is the token's name, "local" where there is no authentication.
	Name string
	Role Role
}

type principalKey struct{}

// WithPrincipal returns the context of a request that p makes.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf is who makes the request that ctx belongs to; elsewhere no one, with no role.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
