package config

import (
	"net/url"
	"slices"
	"time"
)

// bad returns what is wrong with a registry, "" if nothing is.
func (r Registry) bad() string {
	switch {
	case !slices.Contains([]string{"none", "etcd", "consul"}, r.Kind):
		return "kind is unknown; use none, etcd or consul"
	case r.Kind == "etcd" && len(r.Endpoints) == 0:
		return "endpoints is empty; give the URLs of etcd, such as http://etcd-1:2379"
	case r.Kind == "consul" && len(r.Endpoints) > 1:
		return "endpoints has several; give the one agent of this machine, which knows the other servers"
	case r.Kind == "etcd" && r.TokenFile != "":
		return "token_file is for consul; give username and password_file for etcd"
	case r.Kind == "consul" && (r.Username != "" || r.PasswordFile != ""):
		return "username and password_file are for etcd; give token_file for consul"
	case (r.Username == "") != (r.PasswordFile == ""):
		return "is incomplete; username and password_file go together"
	case (r.TLS.CertFile == "") != (r.TLS.KeyFile == ""):
		return "tls is incomplete; cert_file and key_file go together"
	case r.plain() && (r.TLS.CAFile != "" || r.TLS.CertFile != ""):
		return "tls has files, but nothing would be encrypted; give endpoints that begin with https://"
	case r.plain() && (r.PasswordFile != "" || r.TokenFile != ""):
		return "endpoints would get the secret unencrypted; give endpoints that begin with https://"
	case r.TTL < 3*time.Second:
		return "ttl is below 3s; give at least that"
	}
	return ""
}

// plain reports whether an endpoint on another machine is spoken to without TLS.
func (r Registry) plain() bool {
	return slices.ContainsFunc(r.Endpoints, func(e string) bool {
		u, err := url.Parse(e)
		return err == nil && u.Scheme == "http" && !allLoopback([]string{u.Host})
	})
}
