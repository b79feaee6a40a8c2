package main

import (
	"context"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
)

// examineRegistry looks whether the registry of the settings can be read, and lists a process of each kind that these settings are for.
func (d *doctor) examineRegistry(ctx context.Context) {
	r, err := connect.Registry(d.cfg)
	if err != nil {
		d.bad("registry-settings", "", "correct the registry settings", "%v", err)
		return
	}
	if r == nil {
		return
	}
	roles := []string{"worker"}
	if d.cfg.Relay.DSN != "" || d.cfg.Relay.DSNFile != "" {
		roles = append(roles, "relay")
	}
	if advertised(d.cfg.Admin.Advertise, d.cfg.Admin.Listen, false) != "" {
		roles = append(roles, "admin")
	}
	for _, role := range roles {
		all, err := r.List(ctx, d.cfg.Namespace, role)
		if err != nil {
			d.bad("registry-unreachable", "", "start it, or correct registry.endpoints and the login, which needs read access for this command; processes work on without it, but who looks for them there finds old ones or none",
				"%s cannot be read: %v", d.cfg.Registry.Kind, err)
			return
		}
		if len(all) == 0 {
			d.bad("registry-lacks", role, "start one, or give it the same registry settings; its /readyz states why it is not listed (Consul lists nothing for a token without service:read and node:read)",
				"%s lists no %s of namespace %s", d.cfg.Registry.Kind, role, d.cfg.Namespace)
		}
	}
}
