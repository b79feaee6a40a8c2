package config

import (
	"net"
	"slices"
	"strings"
)

// checkConnections refuses what would be less safe than it looks, and what means nothing.
func (c *Config) checkConnections(bad func(key, problem string)) {
	for key, t := range map[string]TLS{"kafka.tls": c.Kafka.TLS, "mysql.tls": c.MySQL.TLS, "relay.tls": c.Relay.TLS, "redis.tls": c.Redis.TLS} {
		if (t.CertFile == "") != (t.KeyFile == "") {
			bad(key, "is incomplete; cert_file and key_file go together")
		}
		byURL := key == "redis.tls" && (strings.HasPrefix(c.Redis.URL.Reveal(), "rediss:") || strings.HasPrefix(c.Redis.ForeignURL.Reveal(), "rediss:"))
		if !t.Enabled && !byURL && (t.CAFile != "" || t.CertFile != "" || t.ServerName != "") {
			bad(key, "has files or a server_name, but is not enabled, so nothing would be encrypted; set "+key+".enabled, or remove them")
		}
	}
	for key, db := range map[string]struct{ cleartext, tls bool }{
		"mysql": {c.MySQL.Cleartext, c.MySQL.TLS.Enabled}, "relay": {c.Relay.Cleartext, c.Relay.TLS.Enabled},
	} {
		if db.cleartext && !db.tls {
			bad(key+".cleartext", "sends the password as it is, and "+key+".tls is not enabled; enable it")
		}
	}
	for key, line := range map[string]string{
		"kafka.sasl": c.Kafka.SASL.PasswordCommand, "mysql": c.MySQL.PasswordCommand, "relay": c.Relay.PasswordCommand, "redis": c.Redis.PasswordCommand,
	} {
		if line != "" && strings.TrimSpace(line) == "" {
			bad(key+".password_command", "is blank; give a program and its arguments")
		}
	}
	c.Kafka.SASL.check(bad, c.Kafka.TLS.Enabled || allLoopback(c.Kafka.Brokers))
}

// check refuses a login that would not be used, or that would be seen on the network. private: no one can read along.
func (s SASL) check(bad func(key, problem string), private bool) {
	given := s.Username != "" || s.Password != "" || s.PasswordFile != "" || s.PasswordCommand != ""
	switch {
	case !slices.Contains([]string{"", "plain", "scram-sha-256", "scram-sha-512", "oauthbearer"}, s.Mechanism):
		bad("kafka.sasl.mechanism", "is unknown; use plain, scram-sha-256, scram-sha-512 or oauthbearer")
	case slices.Contains([]string{"plain", "oauthbearer"}, s.Mechanism) && !private:
		bad("kafka.sasl.mechanism", s.Mechanism+" sends the secret itself, and kafka.tls is not enabled; enable it, or use scram-sha-512")
	case s.Mechanism == "" && given:
		bad("kafka.sasl.mechanism", "is empty, so user and password would not be used; give it, or remove them")
	}
	if s.PasswordCommand != "" && (s.Password != "" || s.PasswordFile != "") {
		bad("kafka.sasl.password_command", "and a password are both set; keep one")
	}
	if len(s.Extensions) > 0 && s.Mechanism != "oauthbearer" {
		bad("kafka.sasl.extensions", "go with oauthbearer alone")
	}
	for _, e := range s.Extensions {
		if name, value, ok := strings.Cut(e, "="); !ok || name == "" || value == "" {
			bad("kafka.sasl.extensions", "have the form name=value, several separated by commas")
		}
	}
}

// allLoopback reports whether all addresses are on this machine, so that no network is between.
func allLoopback(addrs []string) bool {
	return !slices.ContainsFunc(addrs, func(addr string) bool {
		host, _, err := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		return err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}
