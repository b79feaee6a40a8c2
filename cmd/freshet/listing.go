package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/registry"
)

// listed is a process, or the admin API's part of one, as a registry lists it.
type listed struct {
	// role is worker, relay or admin, which is also the section of its settings.
	role, id string
	// address is where other machines reach its listener.
	address string
	ready   func() listener.Readiness
}

// keepListed returns what keeps a process in the registry of the settings, nil if there is none.
func keepListed(c config.Config, l listed, log *slog.Logger) (*registry.Keeper, error) {
	r, err := connect.Registry(c)
	if err != nil {
		return nil, usageError{fmt.Errorf("registry: %w", err)}
	}
	if r == nil {
		return nil, nil
	}
	if l.address == "" {
		return nil, usageError{fmt.Errorf("registry.kind is %s, but other machines do not reach this process; set %s.advertise, or %s.listen to an address that is not loopback", c.Registry.Kind, l.role, l.role)}
	}
	k, err := registry.New(registry.Config{Registry: r, Logger: log, Instance: func() registry.Instance {
		inst := registry.Instance{ID: l.id, Role: l.role, Namespace: c.Namespace, Address: l.address, Version: release(), Status: registry.Passing}
		switch now := l.ready(); {
		case len(now.NotReady) > 0:
			inst.Status, inst.Note = registry.Critical, strings.Join(now.NotReady, "\n")
		case len(now.Degraded) > 0:
			inst.Status, inst.Note = registry.Warning, strings.Join(now.Degraded, "\n")
		}
		return inst
	}})
	if err != nil {
		return nil, usageError{err}
	}
	return k, nil
}

// advertised is where other machines reach a listener, "" if they do not: the setting, or else the bound address unless it is loopback or
// that of all interfaces. An address with TLS is a URL.
func advertised(setting, bound string, encrypted bool) string {
	if setting != "" {
		return setting
	}
	host, _, err := net.SplitHostPort(bound)
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() || listener.Loopback(bound) {
		return ""
	}
	if encrypted {
		return "https://" + bound
	}
	return bound
}
