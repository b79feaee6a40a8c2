// Package registry lists processes of Freshet and services' nodes where others look for them: etcd (package registry/etcd), Consul
// (package registry/consul), or whatever else implements Registry.
//
// A node lists itself where invalidation.Config.Registry is set, a worker, a relay and the admin API with the
// settings registry.*. For other processes, and to leave the registry before a node is closed, run a Keeper:
//
//	k, err := registry.New(registry.Config{Registry: r, Instance: func() registry.Instance { … }})
//	go k.Run(ctx) // lists the process until ctx ends
//
// What is listed is for discovery. Freshet itself never reads it: neither a worker nor a node depends on the registry.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultTTL is how long an instance stays listed by default when it is not renewed.
const DefaultTTL = 15 * time.Second

// ErrConfig comes, wrapped, for a configuration or an instance that cannot work.
var ErrConfig = errors.New("registry configuration refused")

// Status is how well an instance works. The words are Consul's.
type Status string

// The states of an instance.
const (
	// Passing: it works.
	Passing Status = "passing"
	// Warning: it answers, but a part of its work stops, or a node cannot show that what it caches is fresh. Use such an instance last.
	Warning Status = "warning"
	// Critical: it cannot work.
	Critical Status = "critical"
)

// Instance is one process as others find it.
type Instance struct {
	// ID is unique among the instances of a role; required. Letters, digits, dots, hyphens, underscores and colons.
	ID string `json:"id"`
	// Role is what it is: worker, relay, admin or node; required, of the same characters.
	Role string `json:"role"`
	// Namespace is the lane namespace; required.
	Namespace string `json:"namespace"`
	// Address is where other machines reach it: host:port, or a URL where it has TLS; required.
	Address string `json:"address"`
	// Version is the release of the program, "" if it is not known.
	Version string `json:"version,omitempty"`
	// Status is how well it works; "" means Passing.
	Status Status `json:"status"`
	// Note says why the status is not Passing, for operators. It is not stored where clients read.
	Note string `json:"-"`
}

// Registry is where instances are listed. Its methods may be called concurrently, and each bounds its time by ctx.
type Registry interface {
	// Register lists an instance, or renews and updates it. It is called every third of TTL and when the status changes, also after an
	// error and after the registry has forgotten the instance.
	Register(ctx context.Context, inst Instance) error
	// Deregister removes an instance. Removing one that is not listed is not an error.
	Deregister(ctx context.Context, inst Instance) error
	// TTL returns how long an instance stays listed that is not renewed.
	TTL() time.Duration
}

// Check returns what is wrong with an instance. Errors wrap ErrConfig.
func (i Instance) Check() error {
	for _, f := range []struct{ name, value string }{{"ID", i.ID}, {"Role", i.Role}, {"Namespace", i.Namespace}} {
		if f.value == "" || strings.Trim(f.value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:") != "" {
			return fmt.Errorf("%w: %s is %q; give letters, digits, dots, hyphens, underscores or colons", ErrConfig, f.name, f.value)
		}
	}
	_, _, err := i.HostPort()
	return err
}

// HostPort returns the parts of Address. Errors wrap ErrConfig.
func (i Instance) HostPort() (host string, port int, err error) {
	addr := i.Address
	if u, err := url.Parse(addr); err == nil && strings.Contains(addr, "://") {
		addr = u.Host
	}
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%w: Address is %q; give host:port or a URL with a port, where other machines reach this process", ErrConfig, i.Address)
	}
	return host, port, nil
}
