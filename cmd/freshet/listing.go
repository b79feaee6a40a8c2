package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/registry"
)

// keepWorker returns what lists a worker in the registry of the settings, nil if there is none. The address is where other machines reach
// the worker's listener.
func keepWorker(c config.Config, id, address string, ready func() listener.Readiness, log *slog.Logger) (*registry.Keeper, error) {
	r, err := connect.Registry(c)
	if err != nil {
		return nil, usageError{fmt.Errorf("registry: %w", err)}
	}
	if r == nil {
		return nil, nil
	}
	if address == "" {
		return nil, usageError{fmt.Errorf("registry.kind is %s, but other machines do not reach this worker; set worker.advertise, or worker.listen to an address that is not loopback", c.Registry.Kind)}
	}
	k, err := registry.New(registry.Config{Registry: r, Logger: log, Instance: func() registry.Instance {
		inst := registry.Instance{ID: id, Role: "worker", Namespace: c.Namespace, Address: address, Version: release(), Status: registry.Passing}
		switch now := ready(); {
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
