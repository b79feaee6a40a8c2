package connect

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/livefile"
	"github.com/freshet/freshet/registry"
	"github.com/freshet/freshet/registry/consul"
	"github.com/freshet/freshet/registry/etcd"
)

// Listing is a registry that can also be read, as etcd's and Consul's can.
type Listing interface {
	registry.Registry
	// List returns the instances of a role in a namespace.
	List(ctx context.Context, namespace, role string) ([]registry.Instance, error)
}

// Registry returns where processes are listed, nil if nowhere. Secrets and certificates are read again when their files change.
func Registry(c config.Config) (Listing, error) {
	r := c.Registry
	if r.Kind == "none" {
		return nil, nil //nolint:nilnil // there is none
	}
	client, err := registryClient(c)
	if err != nil {
		return nil, err
	}
	if r.Kind == "consul" {
		token, err := secretFile(c.Files(), "registry.token_file", r.TokenFile)
		if err != nil {
			return nil, err
		}
		return consul.New(consul.Config{Endpoint: strings.Join(r.Endpoints, ""), Service: r.Prefix, TTL: r.TTL, Token: token, Client: client})
	}
	ec := etcd.Config{Endpoints: r.Endpoints, Prefix: r.Prefix, TTL: r.TTL, Client: client}
	password, err := secretFile(c.Files(), "registry.password_file", r.PasswordFile)
	if err != nil {
		return nil, err
	}
	if password != nil {
		ec.Login = func(ctx context.Context) (string, string, error) {
			text, err := password(ctx)
			return r.Username, text, err
		}
	}
	return etcd.New(ec)
}

// registryClient makes connections with the certificates that the files hold then.
func registryClient(c config.Config) (*http.Client, error) {
	get, err := ClientTLS(c.Files(), "registry.tls", c.Registry.TLS)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: get()}).DialContext(ctx, network, addr)
		},
	}}, nil
}

// secretFile returns a function that returns the secret that the file holds then; nil without a path.
func secretFile(files *livefile.Set, setting, path string) (func(context.Context) (string, error), error) {
	if path == "" {
		return nil, nil
	}
	live, err := livefile.Open(files, setting, func(contents [][]byte) (config.Secret, error) { return config.ReadSecret(contents[0]) }, path)
	if err != nil {
		return nil, err
	}
	return func(context.Context) (string, error) { return live.Get().Reveal(), nil }, nil
}
