package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (c *Config) validate() error {
	var errs []error
	bad := func(key, problem string) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrInvalid, key, problem))
	}
	if len(c.Kafka.Brokers) == 0 || slices.Contains(c.Kafka.Brokers, "") {
		bad("kafka.brokers", "is empty; give host:port, several separated by commas")
	}
	if !slices.Contains([]string{"none", "gzip", "snappy", "lz4", "zstd"}, c.Producer.Compression) {
		bad("producer.compression", "is unknown; use none, gzip, snappy, lz4 or zstd")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "is unknown; use debug, info, warn or error")
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		bad("log.format", "is unknown; use text or json")
	}
	c.checkConnections(bad)
	if (c.Admin.TLS.CertFile == "") != (c.Admin.TLS.KeyFile == "") || c.Admin.TLS.CertFile == "" && c.Admin.TLS.ClientCAFile != "" {
		bad("admin.tls", "is incomplete; cert_file and key_file go together, and client_ca_file needs both")
	}
	if c.Admin.Rate < 0 {
		bad("admin.rate", "is negative; give requests a second for each token")
	}
	if c.Admin.PublishRate < 0 {
		bad("admin.publish_rate", "is negative; give requests a second for each token")
	}
	for key, keep := range map[string]time.Duration{
		"retention.dead_letters": c.Retention.DeadLetters, "retention.tombstones": c.Retention.Tombstones, "retention.audit": c.Retention.Audit, "retention.replays": c.Retention.Replays,
	} {
		if keep < 0 {
			bad(key, "is negative; give a duration, or 0s to keep rows permanently")
		}
	}
	for key, addr := range map[string]string{"worker.advertise": c.Worker.Advertise, "relay.advertise": c.Relay.Advertise, "admin.advertise": c.Admin.Advertise} {
		if why := badAdvertise(addr); why != "" {
			bad(key, why)
		}
	}
	if why := c.Registry.bad(); why != "" {
		bad("registry", why)
	}
	if c.Relay.Lease < time.Second {
		bad("relay.lease", "is below 1s; give at least that")
	}
	if c.Worker.Window > c.Worker.KeepDisplaced {
		bad("worker.window", "is above worker.keep_displaced; lower it")
	}
	return errors.Join(errs...)
}

// badAdvertise returns what is wrong with an address for other machines, "" if nothing is.
func badAdvertise(addr string) string {
	const form = "; give host:port, or https://host:port where the listener has TLS"
	if addr == "" {
		return ""
	}
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
			return "cannot be used" + form
		}
		addr = u.Host
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" || port == "0" {
		return "cannot be used" + form
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "is the address of all interfaces" + form
	}
	return ""
}
