// Package config makes one Config of four layers, each stronger than the one before: defaults, a YAML file, environment
// variables (FRESHET_KAFKA__BROKERS), flags (--kafka-brokers). It remembers where each value came from. Nothing else in
// Freshet reads files, environment or flags for settings.
package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/livefile"
)

// ErrInvalid comes, wrapped, for every setting that is unknown or has no usable value.
var ErrInvalid = errors.New("configuration")

// Config is every setting of the freshet command.
type Config struct {
	Datasets  string `koanf:"datasets"`
	Namespace string `koanf:"namespace"`
	Lanes     int    `koanf:"lanes"`
	Loads     string `koanf:"loads"`
	FailFast  bool   `koanf:"fail_fast"`
	// DrainDelay is how long a process that was asked to end says so before it does; negative: the default.
	DrainDelay time.Duration `koanf:"drain_delay"`
	Kafka      Kafka         `koanf:"kafka"`
	MySQL      MySQL         `koanf:"mysql"`
	Redis      Redis         `koanf:"redis"`
	Worker     Worker        `koanf:"worker"`
	Retention  Retention     `koanf:"retention"`
	Producer   Producer      `koanf:"producer"`
	Relay      Relay         `koanf:"relay"`
	Admin      Admin         `koanf:"admin"`
	Client     Client        `koanf:"client"`
	Registry   Registry      `koanf:"registry"`
	Log        Log           `koanf:"log"`

	files *livefile.Set
}

// Files are the files of secrets, certificates and keys that the process reads again while it runs.
func (c *Config) Files() *livefile.Set {
	if c.files == nil {
		c.files = &livefile.Set{}
	}
	return c.files
}

// Kafka is how to reach the brokers.
type Kafka struct {
	Brokers  []string `koanf:"brokers"`
	Group    string   `koanf:"group"`
	ClientID string   `koanf:"client_id"`
	TLS      TLS      `koanf:"tls"`
	SASL     SASL     `koanf:"sasl"`
}

// TLS of a connection.
type TLS struct {
	Enabled  bool   `koanf:"enabled"`
	CAFile   string `koanf:"ca_file"`
	CertFile string `koanf:"cert_file"`
	KeyFile  string `koanf:"key_file"`

	ServerName string `koanf:"server_name"`
}

// SASL is how we log in to the brokers.
type SASL struct {
	Mechanism    string `koanf:"mechanism"`
	Username     string `koanf:"username"`
	Password     Secret `koanf:"password"`
	PasswordFile string `koanf:"password_file"`

	PasswordCommand string   `koanf:"password_command"`
	Extensions      []string `koanf:"extensions"`
}

// MySQL is the replica database.
type MySQL struct {
	DSN      Secret `koanf:"dsn"`
	DSNFile  string `koanf:"dsn_file"`
	MaxConns int    `koanf:"max_conns"`

	PasswordCommand string `koanf:"password_command"`
	Cleartext       bool   `koanf:"cleartext"`
	TLS             TLS    `koanf:"tls"`
}

// Redis holds the lanes and the shared entries.
type Redis struct {
	Mode           string `koanf:"mode"`
	URL            Secret `koanf:"url"`
	URLFile        string `koanf:"url_file"`
	ForeignURL     Secret `koanf:"foreign_url"`
	ForeignURLFile string `koanf:"foreign_url_file"`
	ForeignMode    string `koanf:"foreign_mode"`

	PasswordCommand string `koanf:"password_command"`
	TLS             TLS    `koanf:"tls"`
}

// Worker tunes the worker; see the table of settings for the meaning of zero.
type Worker struct {
	ID             string        `koanf:"id"`
	Listen         string        `koanf:"listen"`
	Advertise      string        `koanf:"advertise"`
	MetricsOpen    bool          `koanf:"metrics_open"`
	Writers        int           `koanf:"writers"`
	MaxBatch       int           `koanf:"max_batch"`
	MaxBatchBytes  int           `koanf:"max_batch_bytes"`
	FetchBudget    int           `koanf:"fetch_budget"`
	Memory         int           `koanf:"memory"`
	SessionTimeout time.Duration `koanf:"session_timeout"`
	Window         time.Duration `koanf:"window"`
	KeepDisplaced  time.Duration `koanf:"keep_displaced"`
	Hold           time.Duration `koanf:"hold"`
	DeadTopics     bool          `koanf:"dead_topics"`
	MaxKeyRate     int           `koanf:"max_key_rate"`
	ForeignAgain   time.Duration `koanf:"foreign_again"`
	Samples        int           `koanf:"samples"`
	StaleAfter     time.Duration `koanf:"stale_after"`
}

// Retention is how long rows that have no further use are kept; 0 keeps them permanently.
type Retention struct {
	DeadLetters time.Duration `koanf:"dead_letters"`
	Tombstones  time.Duration `koanf:"tombstones"`
	Audit       time.Duration `koanf:"audit"`
	Replays     time.Duration `koanf:"replays"`
}

// Producer tunes publishing.
type Producer struct {
	Source          string        `koanf:"source"`
	Compression     string        `koanf:"compression"`
	Linger          time.Duration `koanf:"linger"`
	DeliveryTimeout time.Duration `koanf:"delivery_timeout"`
}

// Relay is the source database, and the process that publishes its outbox.
type Relay struct {
	PasswordCommand string `koanf:"password_command"`
	Cleartext       bool   `koanf:"cleartext"`

	DSN     Secret `koanf:"dsn"`
	DSNFile string `koanf:"dsn_file"`
	TLS     TLS    `koanf:"tls"`
	ID      string `koanf:"id"`
	Listen  string `koanf:"listen"`
	Source  string `koanf:"source"`

	Advertise   string `koanf:"advertise"`
	MetricsOpen bool   `koanf:"metrics_open"`

	Lease time.Duration `koanf:"lease"`
}

// Admin is the listener of the admin API.
type Admin struct {
	Listen      string   `koanf:"listen"`
	BasePath    string   `koanf:"base_path"`
	Advertise   string   `koanf:"advertise"`
	TraceURL    string   `koanf:"trace_url"`
	TokensFile  string   `koanf:"tokens_file"`
	TLS         AdminTLS `koanf:"tls"`
	Rate        int      `koanf:"rate"`
	PublishRate int      `koanf:"publish_rate"`
}

// AdminTLS encrypts the admin API.
type AdminTLS struct {
	CertFile     string `koanf:"cert_file"`
	KeyFile      string `koanf:"key_file"`
	ClientCAFile string `koanf:"client_ca_file"`
}

// Client is how commands reach the admin API.
type Client struct {
	URL       string `koanf:"url"`
	Token     Secret `koanf:"token"`
	TokenFile string `koanf:"token_file"`
	CAFile    string `koanf:"ca_file"`
	CertFile  string `koanf:"cert_file"`
	KeyFile   string `koanf:"key_file"`
}

// Registry is where workers are listed.
type Registry struct {
	Kind         string        `koanf:"kind"`
	Endpoints    []string      `koanf:"endpoints"`
	Prefix       string        `koanf:"prefix"`
	TTL          time.Duration `koanf:"ttl"`
	Username     string        `koanf:"username"`
	PasswordFile string        `koanf:"password_file"`
	TokenFile    string        `koanf:"token_file"`
	TLS          TLS           `koanf:"tls"`
}

// Log configures logging.
type Log struct {
	Level  string `koanf:"level"`
	Format string `koanf:"format"`
}

// Source is where the layers come from.
type Source struct {
	// File is the path of a YAML file; empty: none.
	File string
	// Environ is os.Environ(), or a test's.
	Environ []string
	// Flags holds flags made by Bind; only those that were set count. nil: none.
	Flags *pflag.FlagSet
}

const (
	envPrefix  = "FRESHET_"
	testPrefix = "FRESHET_TEST_" // where tests find their servers; no setting
)

// Load reads the layers. Errors wrap ErrInvalid and name the setting, its place and the fix.
func Load(src Source) (*Loaded, error) {
	l := &Loaded{origins: map[string]string{}}
	k := koanf.New(".")
	layer := func(origin func(key string) string, p koanf.Provider, parser koanf.Parser) error {
		one := koanf.New(".")
		if err := one.Load(p, parser); err != nil {
			return err
		}
		var errs []error
		for _, key := range one.Keys() {
			if !known(key) {
				errs = append(errs, fmt.Errorf("%w: %s: unknown setting %q%s", ErrInvalid, origin(key), key, near(key)))
			}
			l.origins[key] = origin(key)
		}
		return errors.Join(append(errs, k.Merge(one))...)
	}
	if err := layer(func(string) string { return "default" }, confmap.Provider(defaults(), "."), nil); err != nil {
		return nil, err
	}
	if src.File != "" {
		if err := layer(func(string) string { return "file " + src.File }, file.Provider(src.File), yaml.Parser()); err != nil {
			return nil, wrap("read "+src.File, err)
		}
	}
	vars := env.Provider(".", env.Opt{
		Prefix: envPrefix, EnvironFunc: func() []string { return settingVars(src.Environ) },
		TransformFunc: func(k, v string) (string, any) { return keyOfVar(k), valueOfVar(keyOfVar(k), v) },
	})
	if err := layer(func(key string) string { return "environment " + varOf(key) }, vars, nil); err != nil {
		return nil, wrap("read environment", err)
	}
	if src.Flags != nil {
		set := posflag.ProviderWithFlag(src.Flags, ".", nil, func(f *pflag.Flag) (string, any) {
			key := keyOfFlag(f.Name)
			if !f.Changed || key == "" {
				return "", nil
			}
			return key, posflag.FlagVal(src.Flags, f)
		})
		if err := layer(func(key string) string { return "flag --" + flagOf(key) }, set, nil); err != nil {
			return nil, wrap("read flags", err)
		}
	}
	err := k.UnmarshalWithConf("", &l.Config, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(",")),
		Result:     &l.Config, WeaklyTypedInput: true, ErrorUnused: true,
	}})
	if err != nil {
		return nil, wrap("read settings", err)
	}
	if err := l.readSecretFiles(); err != nil {
		return nil, err
	}
	l.Config.Files() // copies share them
	if l.Config.Kafka.Group == "" {
		l.Config.Kafka.Group = consumer.DefaultGroup(l.Config.Namespace)
	}
	return l, l.Config.validate()
}

func wrap(what string, err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrInvalid, what, err)
}

// Loaded is a Config and the origin of each of its values.
type Loaded struct {
	Config  Config
	origins map[string]string
}

// Value is one setting as it is in force. Secrets are masked.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Values lists every setting in the order of the table.
func (l *Loaded) Values() []Value {
	out := make([]Value, 0, len(settings()))
	for _, s := range settings() {
		out = append(out, Value{Key: s.key, Value: s.show(&l.Config), Origin: l.origins[s.key]})
	}
	return out
}

func (l *Loaded) readSecretFiles() error {
	c := &l.Config
	for _, f := range []struct {
		key, path string
		to        *Secret
	}{
		{"kafka.sasl.password", c.Kafka.SASL.PasswordFile, &c.Kafka.SASL.Password},
		{"mysql.dsn", c.MySQL.DSNFile, &c.MySQL.DSN},
		{"relay.dsn", c.Relay.DSNFile, &c.Relay.DSN},
		{"redis.url", c.Redis.URLFile, &c.Redis.URL},
		{"redis.foreign_url", c.Redis.ForeignURLFile, &c.Redis.ForeignURL},
		{"client.token", c.Client.TokenFile, &c.Client.Token},
	} {
		if f.path == "" {
			continue
		}
		if *f.to != "" && l.origins[f.key] != "default" {
			return fmt.Errorf("%w: %s and %s_file are both set; keep one", ErrInvalid, f.key, f.key)
		}
		b, err := os.ReadFile(f.path)
		if err == nil {
			*f.to, err = ReadSecret(b)
		}
		if err != nil {
			return fmt.Errorf("%w: %s_file: %w", ErrInvalid, f.key, err)
		}
		l.origins[f.key] = "file " + f.path
	}
	return nil
}

// UsageError is an error in what the user gave, such as a setting that cannot be used. The process ends with exit code 2.
type UsageError struct{ Err error }

// Error implements error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.Err }
