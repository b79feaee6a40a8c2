package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// setting is one row of the table of settings: everything that names, documents or prints a setting comes from it.
type setting struct {
	key    string
	def    any
	help   string
	secret bool
	get    func(*Config) any
}

// settings is the table, in the order in which it is printed.
func settings() []setting {
	return slices.Concat(generalSettings(), storeSettings(), processSettings(), relaySettings(), registrySettings())
}

func relaySettings() []setting {
	return []setting{
		{"relay.dsn", "", "user:password@tcp(host:port)/database of the source, which has the outbox", true, func(c *Config) any { return c.Relay.DSN }},
		{"relay.dsn_file", "", "file that holds that DSN", false, func(c *Config) any { return c.Relay.DSNFile }},
		{"relay.password_command", "", "program and arguments, separated by spaces, that print the password of new connections, such as a token; asked at most once a minute", false, func(c *Config) any { return c.Relay.PasswordCommand }},
		{"relay.cleartext", false, "send the password as it is where the server asks for that, as for tokens of clouds; needs TLS", false, func(c *Config) any { return c.Relay.Cleartext }},
		{"relay.tls.enabled", false, "connect to the source with TLS and verify its certificate", false, func(c *Config) any { return c.Relay.TLS.Enabled }},
		{"relay.tls.ca_file", "", "PEM file of the authority; empty: the system's", false, func(c *Config) any { return c.Relay.TLS.CAFile }},
		{"relay.tls.cert_file", "", "PEM file of our certificate, for mTLS", false, func(c *Config) any { return c.Relay.TLS.CertFile }},
		{"relay.tls.key_file", "", "PEM file of our key, for mTLS", false, func(c *Config) any { return c.Relay.TLS.KeyFile }},
		{"relay.tls.server_name", "", "name that the server's certificate must have; empty: the host of its address", false, func(c *Config) any { return c.Relay.TLS.ServerName }},
		{"relay.id", "", "name of this relay; empty: host, pid and a random part", false, func(c *Config) any { return c.Relay.ID }},
		{"relay.advertise", "", "host:port or URL where other machines reach relay.listen, for the registry; empty: the bound address, unless it is loopback or that of all interfaces", false, func(c *Config) any { return c.Relay.Advertise }},
		{"relay.listen", "127.0.0.1:7790", "address of /livez, /readyz and /metrics of freshet relay; one that is not loopback is guarded by admin.tokens_file and admin.tls; empty: none", false, func(c *Config) any { return c.Relay.Listen }},
		{"relay.metrics_open", false, "show /metrics of freshet relay without a token or a client certificate", false, func(c *Config) any { return c.Relay.MetricsOpen }},
		{"relay.lease", "10s", "how long a dead relay's outbox waits until another one takes over, at least 1s", false, func(c *Config) any { return c.Relay.Lease }},
		{"relay.source", "", "CloudEvents source of the events of outbox rows; empty: //freshet/relay", false, func(c *Config) any { return c.Relay.Source }},
	}
}

func registrySettings() []setting {
	return []setting{
		{"registry.kind", "none", "where workers, relays and the admin API are listed for other programs: none, etcd or consul", false, func(c *Config) any { return c.Registry.Kind }},
		{"registry.endpoints", []string{}, "URLs, tried in order, such as http://etcd-1:2379; consul: one, that of this machine's agent; empty: http://127.0.0.1:8500 of consul", false, func(c *Config) any { return c.Registry.Endpoints }},
		{"registry.prefix", "freshet", "begins the keys in etcd (PREFIX/NAMESPACE/ROLE/ID) and the names of services in Consul (PREFIX-ROLE)", false, func(c *Config) any { return c.Registry.Prefix }},
		{"registry.ttl", "15s", "how long a process that is gone stays listed, at least 3s", false, func(c *Config) any { return c.Registry.TTL }},
		{"registry.username", "", "user of etcd; empty: none", false, func(c *Config) any { return c.Registry.Username }},
		{"registry.password_file", "", "file that holds its password", false, func(c *Config) any { return c.Registry.PasswordFile }},
		{"registry.token_file", "", "file that holds the ACL token of Consul; empty: none", false, func(c *Config) any { return c.Registry.TokenFile }},
		{"registry.tls.ca_file", "", "PEM file of the authority for https endpoints; empty: the system's", false, func(c *Config) any { return c.Registry.TLS.CAFile }},
		{"registry.tls.cert_file", "", "PEM file of our certificate, for mTLS", false, func(c *Config) any { return c.Registry.TLS.CertFile }},
		{"registry.tls.key_file", "", "PEM file of our key, for mTLS", false, func(c *Config) any { return c.Registry.TLS.KeyFile }},
	}
}

func generalSettings() []setting {
	return []setting{
		{"datasets", "datasets", "folder with the dataset declarations", false, func(c *Config) any { return c.Datasets }},
		{"namespace", "default", "lane namespace: [a-z0-9._-], at most 32 characters", false, func(c *Config) any { return c.Namespace }},
		{"lanes", 1, "number of lanes of the namespace; fixed once the namespace exists", false, func(c *Config) any { return c.Lanes }},
		{"loads", "any", "any, or primary when every load of every node reads the primary: then no load is refused after an invalidation", false, func(c *Config) any { return c.Loads }},
		{"fail_fast", false, "end with the error when a server is away or refuses at start, instead of waiting for it", false, func(c *Config) any { return c.FailFast }},
		{"drain_delay", "-1s", "how long a process that was asked to end answers /readyz with 503 before it closes its listeners and ends; 0s: not at all; negative: 5s if one of them is not on loopback, else 0s", false, func(c *Config) any { return c.DrainDelay }},
		{"kafka.brokers", []string{"127.0.0.1:9092"}, "bootstrap brokers, host:port", false, func(c *Config) any { return c.Kafka.Brokers }},
		{"kafka.group", "", "consumer group; one per replica database and namespace; empty: freshet, or freshet-NAMESPACE unless the namespace is default", false, func(c *Config) any { return c.Kafka.Group }},
		{"kafka.client_id", "freshet", "client id in the brokers' logs and quotas", false, func(c *Config) any { return c.Kafka.ClientID }},
		{"kafka.tls.enabled", false, "connect with TLS", false, func(c *Config) any { return c.Kafka.TLS.Enabled }},
		{"kafka.tls.ca_file", "", "PEM file of the authority; empty: the system's", false, func(c *Config) any { return c.Kafka.TLS.CAFile }},
		{"kafka.tls.cert_file", "", "PEM file of our certificate, for mTLS", false, func(c *Config) any { return c.Kafka.TLS.CertFile }},
		{"kafka.tls.key_file", "", "PEM file of our key, for mTLS", false, func(c *Config) any { return c.Kafka.TLS.KeyFile }},
		{"kafka.tls.server_name", "", "name that the server's certificate must have; empty: the host of its address", false, func(c *Config) any { return c.Kafka.TLS.ServerName }},
		{"kafka.sasl.mechanism", "", "plain, scram-sha-256, scram-sha-512 or oauthbearer; empty: none", false, func(c *Config) any { return c.Kafka.SASL.Mechanism }},
		{"kafka.sasl.username", "", "SASL user", false, func(c *Config) any { return c.Kafka.SASL.Username }},
		{"kafka.sasl.password", "", "SASL password", true, func(c *Config) any { return c.Kafka.SASL.Password }},
		{"kafka.sasl.password_file", "", "file that holds the SASL password, or the token of oauthbearer", false, func(c *Config) any { return c.Kafka.SASL.PasswordFile }},
		{"kafka.sasl.password_command", "", "program and arguments, separated by spaces, that print the password or the token of new connections; asked at most once a minute", false, func(c *Config) any { return c.Kafka.SASL.PasswordCommand }},
		{"kafka.sasl.extensions", []string{}, "name=value pairs that go with the token of oauthbearer, separated by commas", false, func(c *Config) any { return c.Kafka.SASL.Extensions }},
	}
}

func storeSettings() []setting {
	return []setting{
		{"mysql.dsn", "", "user:password@tcp(host:port)/database of the replica", true, func(c *Config) any { return c.MySQL.DSN }},
		{"mysql.dsn_file", "", "file that holds the DSN", false, func(c *Config) any { return c.MySQL.DSNFile }},
		{"mysql.password_command", "", "program and arguments, separated by spaces, that print the password of new connections, such as a token; asked at most once a minute", false, func(c *Config) any { return c.MySQL.PasswordCommand }},
		{"mysql.cleartext", false, "send the password as it is where the server asks for that, as for tokens of clouds; needs TLS", false, func(c *Config) any { return c.MySQL.Cleartext }},
		{"mysql.max_conns", 0, "connections to MySQL, at least writers + 3; 0: writers + 4. Replays have up to 8 of their own", false, func(c *Config) any { return c.MySQL.MaxConns }},
		{"mysql.tls.enabled", false, "connect with TLS and verify the server's certificate", false, func(c *Config) any { return c.MySQL.TLS.Enabled }},
		{"mysql.tls.ca_file", "", "PEM file of the authority; empty: the system's", false, func(c *Config) any { return c.MySQL.TLS.CAFile }},
		{"mysql.tls.cert_file", "", "PEM file of our certificate, for mTLS", false, func(c *Config) any { return c.MySQL.TLS.CertFile }},
		{"mysql.tls.key_file", "", "PEM file of our key, for mTLS", false, func(c *Config) any { return c.MySQL.TLS.KeyFile }},
		{"mysql.tls.server_name", "", "name that the server's certificate must have; empty: the host of its address", false, func(c *Config) any { return c.MySQL.TLS.ServerName }},
		{"redis.mode", "single", "single, sentinel or cluster", false, func(c *Config) any { return c.Redis.Mode }},
		{"redis.url", "redis://127.0.0.1:6379/0", "redis://user:password@host:port/db, rediss:// for TLS, unix://path; sentinel: …@sentinel:port/db?master_name=m&addr=sentinel2:port; cluster: …@host:port?addr=host2:port", true, func(c *Config) any { return c.Redis.URL }},
		{"redis.url_file", "", "file that holds the URL", false, func(c *Config) any { return c.Redis.URLFile }},
		{"redis.password_command", "", "program and arguments, separated by spaces, that print the password of new connections, such as a token; asked at most once a minute", false, func(c *Config) any { return c.Redis.PasswordCommand }},
		{"redis.foreign_mode", "", "mode of redis.foreign_url; empty: redis.mode", false, func(c *Config) any { return c.Redis.ForeignMode }},
		{"redis.foreign_url", "", "Redis that holds the datasets' foreign keys; empty: redis.url", true, func(c *Config) any { return c.Redis.ForeignURL }},
		{"redis.foreign_url_file", "", "file that holds that URL", false, func(c *Config) any { return c.Redis.ForeignURLFile }},
		{"redis.tls.enabled", false, "connect with TLS, as with rediss://", false, func(c *Config) any { return c.Redis.TLS.Enabled }},
		{"redis.tls.ca_file", "", "PEM file of the authority; empty: the system's", false, func(c *Config) any { return c.Redis.TLS.CAFile }},
		{"redis.tls.cert_file", "", "PEM file of our certificate, for mTLS", false, func(c *Config) any { return c.Redis.TLS.CertFile }},
		{"redis.tls.key_file", "", "PEM file of our key, for mTLS", false, func(c *Config) any { return c.Redis.TLS.KeyFile }},
		{"redis.tls.server_name", "", "name that the server's certificate must have; empty: the host of its address", false, func(c *Config) any { return c.Redis.TLS.ServerName }},
	}
}

func processSettings() []setting {
	return []setting{
		{"worker.id", "", "name of this worker; empty: host, pid and a random part", false, func(c *Config) any { return c.Worker.ID }},
		{"worker.listen", "127.0.0.1:7788", "address of /livez, /readyz and /metrics; one that is not loopback is guarded by admin.tokens_file and admin.tls; empty: none", false, func(c *Config) any { return c.Worker.Listen }},
		{"worker.advertise", "", "host:port or URL where other machines reach worker.listen; empty: the bound address, unless it is loopback or that of all interfaces", false, func(c *Config) any { return c.Worker.Advertise }},
		{"worker.metrics_open", false, "show /metrics of the worker without a token or a client certificate", false, func(c *Config) any { return c.Worker.MetricsOpen }},
		{"worker.writers", 0, "transactions at a time; 0: 3", false, func(c *Config) any { return c.Worker.Writers }},
		{"worker.max_batch", 0, "most events in a transaction; 0: 4000", false, func(c *Config) any { return c.Worker.MaxBatch }},
		{"worker.max_batch_bytes", 0, "most bytes in a transaction; 0: 4 MiB", false, func(c *Config) any { return c.Worker.MaxBatchBytes }},
		{"worker.fetch_budget", 0, "bytes fetched and not yet applied; 0: 32 MiB", false, func(c *Config) any { return c.Worker.FetchBudget }},
		{"worker.memory", 0, "soft limit of the worker process's memory, in bytes, at most 90 % of its cgroup's; 0: four times what may be fetched, at least 256 MiB; negative: none; GOMEMLIMIT and GOGC of the environment win", false, func(c *Config) any { return c.Worker.Memory }},
		{"worker.session_timeout", "10s", "Kafka session timeout: how long a dead worker's partitions wait", false, func(c *Config) any { return c.Worker.SessionTimeout }},
		{"worker.window", "15m", "how far back a new lane is filled again from Kafka", false, func(c *Config) any { return c.Worker.Window }},
		{"worker.keep_displaced", "24h", "how long displaced names are kept for repairs", false, func(c *Config) any { return c.Worker.KeepDisplaced }},
		{"worker.hold", "1m", "how long after an invalidation lagging loads are refused", false, func(c *Config) any { return c.Worker.Hold }},
		{"worker.dead_topics", false, "copy each dead letter to the topic <topic>.dead, which freshet migrate datasets makes", false, func(c *Config) any { return c.Worker.DeadTopics }},
		{"worker.max_key_rate", 0, "keys a second and lane beyond which a common tag is stamped or the lane flushed instead; 0: 100000; negative: no bound", false, func(c *Config) any { return c.Worker.MaxKeyRate }},
		{"worker.foreign_again", "0s", "delete foreign keys once more that long after the first time; 0: not", false, func(c *Config) any { return c.Worker.ForeignAgain }},
		{"worker.samples", 0, "records a second whose cached copies are compared with the replica, at most 100; 0: 1; negative: none", false, func(c *Config) any { return c.Worker.Samples }},
		{"worker.stale_after", "1m", "when a copy older than the replica is an alarm, a quarter of it after a second look; above MaxStaleness of every node", false, func(c *Config) any { return c.Worker.StaleAfter }},
		{"retention.dead_letters", "720h", "how long superseded and discarded dead letters are kept, and redriven ones whose record is newer; 0s: permanently", false, func(c *Config) any { return c.Retention.DeadLetters }},
		{"retention.tombstones", "2160h", "how long rows of deleted records are kept, longer than an event may be late; 0s: permanently; on_delete: keep: always", false, func(c *Config) any { return c.Retention.Tombstones }},
		{"retention.audit", "8760h", "how long lines of the audit log are kept; 0s: permanently", false, func(c *Config) any { return c.Retention.Audit }},
		{"retention.replays", "2160h", "how long replays that ended are kept; 0s: permanently", false, func(c *Config) any { return c.Retention.Replays }},
		{"producer.source", "", "CloudEvents source of what this process publishes; empty: //freshet/publish", false, func(c *Config) any { return c.Producer.Source }},
		{"producer.compression", "none", "none, gzip, snappy, lz4 or zstd", false, func(c *Config) any { return c.Producer.Compression }},
		{"producer.linger", "0s", "how long a batch waits for more; 0: the producer's own", false, func(c *Config) any { return c.Producer.Linger }},
		{"producer.delivery_timeout", "2m", "how long delivery is tried before an event fails", false, func(c *Config) any { return c.Producer.DeliveryTimeout }},
		{"admin.advertise", "", "host:port or URL where other machines reach admin.listen, for the registry; empty: admin.listen, unless it is loopback or that of all interfaces", false, func(c *Config) any { return c.Admin.Advertise }},
		{"admin.listen", "127.0.0.1:7789", "address of the admin API; one that is not loopback needs admin.tokens_file", false, func(c *Config) any { return c.Admin.Listen }},
		{"admin.base_path", "", "path under which a proxy shows the console, such as /freshet; the proxy may pass it on or remove it; empty: the root", false, func(c *Config) any { return c.Admin.BasePath }},
		{"admin.trace_url", "", "where the console finds a trace, such as https://jaeger.example.com/trace/{trace_id}; empty: it shows the id alone", false, func(c *Config) any { return c.Admin.TraceURL }},
		{"admin.tokens_file", "", "file with the hashes of tokens (freshet admin token); empty: no authentication, loopback only", false, func(c *Config) any { return c.Admin.TokensFile }},
		{"admin.tls.cert_file", "", "PEM file of the admin API's certificate; empty: plain HTTP", false, func(c *Config) any { return c.Admin.TLS.CertFile }},
		{"admin.tls.key_file", "", "PEM file of its key", false, func(c *Config) any { return c.Admin.TLS.KeyFile }},
		{"admin.tls.client_ca_file", "", "PEM file of the authority whose certificates clients must show; empty: none", false, func(c *Config) any { return c.Admin.TLS.ClientCAFile }},
		{"admin.rate", 100, "requests a second for each token; those that publish do not count", false, func(c *Config) any { return c.Admin.Rate }},
		{"admin.publish_rate", 1000, "requests a second that publish events or invalidations, for each token", false, func(c *Config) any { return c.Admin.PublishRate }},
		{"client.url", "http://127.0.0.1:7789", "where commands find the admin API", false, func(c *Config) any { return c.Client.URL }},
		{"client.token", "", "token that commands show to the admin API", true, func(c *Config) any { return c.Client.Token }},
		{"client.token_file", "", "file that holds the token", false, func(c *Config) any { return c.Client.TokenFile }},
		{"client.ca_file", "", "PEM file of the admin API's authority; empty: the system's", false, func(c *Config) any { return c.Client.CAFile }},
		{"client.cert_file", "", "PEM file of the certificate that commands show, for mTLS", false, func(c *Config) any { return c.Client.CertFile }},
		{"client.key_file", "", "PEM file of its key", false, func(c *Config) any { return c.Client.KeyFile }},
		{"log.level", "info", "debug, info, warn or error", false, func(c *Config) any { return c.Log.Level }},
		{"log.format", "text", "text or json", false, func(c *Config) any { return c.Log.Format }},
	}
}

func (s setting) show(c *Config) string {
	switch v := s.get(c).(type) {
	case []string:
		return strings.Join(v, ",")
	case time.Duration:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

func defaults() map[string]any {
	out := map[string]any{}
	for _, s := range settings() {
		out[s.key] = s.def
	}
	return out
}

func known(key string) bool {
	for _, s := range settings() {
		if s.key == key {
			return true
		}
	}
	return false
}

// near suggests the setting that shares the last part of an unknown one's name.
func near(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, s := range settings() {
		if strings.HasPrefix(s.key, key) || strings.HasSuffix(s.key, "."+last) || strings.HasPrefix(s.key[strings.LastIndexByte(s.key, '.')+1:], last) {
			return fmt.Sprintf("; do you mean %q?", s.key)
		}
	}
	return "; `freshet config` lists all"
}

// Bind adds a flag for each setting of the named groups: "kafka" for kafka.*, "admin.tls" for admin.tls.*, or the whole name of a setting.
func Bind(fs *pflag.FlagSet, groups ...string) {
	for _, s := range settings() {
		for _, g := range groups {
			if g == s.key || strings.HasPrefix(s.key, g+".") {
				s.bind(fs)
			}
		}
	}
}

func (s setting) bind(fs *pflag.FlagSet) {
	if s.secret {
		return // a secret on a command line is seen by everybody on the machine: environment or file
	}
	name := flagOf(s.key)
	switch v := s.def.(type) {
	case []string:
		fs.StringSlice(name, v, s.help)
	case bool:
		fs.Bool(name, v, s.help)
	case int:
		fs.Int(name, v, s.help)
	case string:
		if _, err := time.ParseDuration(v); err == nil && v != "" {
			d, _ := time.ParseDuration(v)
			fs.Duration(name, d, s.help)
			return
		}
		fs.String(name, v, s.help)
	}
}

func flagOf(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

func keyOfFlag(name string) string {
	for _, s := range settings() {
		if !s.secret && flagOf(s.key) == name {
			return s.key
		}
	}
	return ""
}

func varOf(key string) string { return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__")) }

func keyOfVar(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "__", "."))
}

func valueOfVar(key, v string) any {
	for _, s := range settings() {
		if _, list := s.def.([]string); list && s.key == key {
			return strings.Split(v, ",")
		}
	}
	return v
}

// serviceLink matches what Kubernetes puts into the environment of every pod of a namespace that has a Service whose name
// begins with freshet: FRESHET_PORT, FRESHET_ADMIN_SERVICE_HOST, FRESHET_PORT_7788_TCP_ADDR.
var serviceLink = regexp.MustCompile(`^FRESHET_([A-Z0-9_]*_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)=`)

// settingVars leaves out the variables that tell tests where their servers are, and those of Kubernetes.
func settingVars(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if strings.HasPrefix(kv, envPrefix) && !strings.HasPrefix(kv, testPrefix) && !serviceLink.MatchString(kv) {
			out = append(out, kv)
		}
	}
	return out
}
