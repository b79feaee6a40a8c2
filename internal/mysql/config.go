package mysql

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Defaults of Config.
const (
	DefaultWriters   = 4
	DefaultReadConns = 4
	DefaultIdle      = 5 * time.Second
	DefaultLockWait  = 5 * time.Second
)

const (
	minReadConns = 3

	dialTimeout = 5 * time.Second
	ioTimeout   = 30 * time.Second
	// Servers and proxies close idle connections silently, so none is kept for long.
	connLifetime = 3 * time.Minute
	connIdle     = time.Minute
)

// Config of a Pool. One of DSN, Addr and Connector states where the database is; everything else may be zero.
type Config struct {
	// DSN in the driver's form, "user:password@tcp(host:3306)/database". Not with Addr or Connector. Parameters that
	// Freshet needs are set over those of the DSN; multiStatements, allowAllFiles, interpolateParams and
	// allowCleartextPasswords are refused.
	DSN string

	// Network is "tcp" or "unix"; "" means "tcp". Only with Addr.
	Network string
	// Addr is "host:port", or the socket's path.
	Addr string
	// User, Password and Database go with Addr.
	User, Password, Database string
	// TLS encrypts the connection; nil leaves that to the DSN, or to nothing. Not with Connector.
	TLS *tls.Config

	// GetTLS, if not nil, takes the place of TLS and is called for each new connection, so that replaced certificates and
	// authorities are used.
	GetTLS func() *tls.Config
	// Credentials, if not nil, returns the user and the password of each new connection, in place of the DSN's or of User and
	// Password. Not with Connector.
	Credentials func(ctx context.Context) (user, password string, err error)
	// Cleartext sends the password as it is where the server asks for that, as servers of clouds do for tokens. It needs TLS.
	Cleartext bool
	// Connector makes connections in the caller's own way; it must set the driver's clientFoundRows and leave
	// parseTime off. Not with DSN or Addr.
	Connector driver.Connector

	// Writers is the number of pinned connections, hence of transactions at the same time; 0 means DefaultWriters.
	Writers int
	// ReadConns is the greatest number of further connections, for everything else; 0 means DefaultReadConns, and fewer than
	// 3 mean 3: some readers hold one while they read with another.
	ReadConns int
	// Idle is how long a pinned connection may be unused before it is replaced, in whole seconds; the server ends it after
	// twice that time. 0 means DefaultIdle.
	Idle time.Duration
	// LockWait is the longest wait of a statement for another transaction's lock, in whole seconds; 0 means
	// DefaultLockWait. After it the whole transaction begins again.
	LockWait time.Duration
	// ParseTime makes the driver return times as time.Time. Freshet's own statements need it off.
	ParseTime bool
	// NoReadTimeout lets a statement take any time, as a change of a table may.
	NoReadTimeout bool
	// PlainSession leaves the session variables as the server sets them, for embedded servers that do not know them. A real
	// server needs them: without strict mode, for example, it changes bad values silently.
	PlainSession bool
	// Logger receives retries, never values; nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	given := 0
	for _, set := range []bool{c.DSN != "", c.Addr != "", c.Connector != nil} {
		if set {
			given++
		}
	}
	if given != 1 {
		return c, fmt.Errorf("mysql: %d of DSN, Addr and Connector are set; give exactly one", given)
	}
	for name, n := range map[string]int64{
		"Writers": int64(c.Writers), "ReadConns": int64(c.ReadConns),
		"Idle": int64(c.Idle), "LockWait": int64(c.LockWait),
	} {
		if n < 0 {
			return c, fmt.Errorf("mysql: %s is %d; give a positive value, or 0 for the default", name, n)
		}
	}
	c.Writers = cmp.Or(c.Writers, DefaultWriters)
	c.ReadConns = max(cmp.Or(c.ReadConns, DefaultReadConns), minReadConns)
	c.Idle = max(cmp.Or(c.Idle, DefaultIdle).Truncate(time.Second), time.Second)
	c.LockWait = max(cmp.Or(c.LockWait, DefaultLockWait).Truncate(time.Second), time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// DriverConfig returns the driver's configuration that c asks for, with every driver setting that Freshet needs.
func (c Config) DriverConfig() (*mysql.Config, error) {
	cfg := mysql.NewConfig()
	if c.DSN != "" {
		parsed, err := mysql.ParseDSN(c.DSN)
		if err != nil {
			// The driver's error may quote a piece of the DSN, and with it a piece of the password.
			return nil, errors.New("mysql: the DSN cannot be parsed; its form is user:password@tcp(host:3306)/database")
		}
		cfg = parsed
	} else {
		cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = cmp.Or(c.Network, "tcp"), c.Addr, c.User, c.Password, c.Database
	}
	for name, on := range map[string]bool{
		"multiStatements":         cfg.MultiStatements,
		"allowAllFiles":           cfg.AllowAllFiles,
		"interpolateParams":       cfg.InterpolateParams,
		"allowCleartextPasswords": cfg.AllowCleartextPasswords,
	} {
		if on {
			return nil, fmt.Errorf("mysql: the DSN sets %s, which is not safe here; remove it", name)
		}
	}
	if cfg.DBName == "" {
		return nil, errors.New("mysql: no database is named; add it to the DSN or set Database")
	}
	if c.TLS != nil {
		cfg.TLS, cfg.AllowFallbackToPlaintext = c.TLS, false
	}
	if c.Cleartext && c.TLS == nil && c.GetTLS == nil {
		return nil, errors.New("mysql: Cleartext would show the password to the network; set TLS or GetTLS")
	}
	cfg.AllowCleartextPasswords = c.Cleartext
	if err := cfg.Apply(mysql.BeforeConnect(c.beforeConnect)); err != nil {
		return nil, fmt.Errorf("mysql: configure driver: %w", err)
	}
	cfg.ClientFoundRows = true
	cfg.RejectReadOnly = true
	cfg.ParseTime = c.ParseTime
	cfg.MaxAllowedPacket = 0 // ask the server
	cfg.Collation = "utf8mb4_bin"
	cfg.Timeout = cmp.Or(cfg.Timeout, dialTimeout)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, ioTimeout)
	if c.NoReadTimeout {
		cfg.ReadTimeout = 0
	}
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, ioTimeout)
	cfg.ConnectionAttributes = "program_name:freshet"
	cfg.Logger = &mysql.NopLogger{} // what it would say comes back as errors too
	return cfg, nil
}

// beforeConnect puts what may have been replaced into the configuration of one connection.
func (c Config) beforeConnect(ctx context.Context, cfg *mysql.Config) (err error) {
	if c.Credentials != nil {
		if cfg.User, cfg.Passwd, err = c.Credentials(ctx); err != nil {
			return fmt.Errorf("get user and password: %w", err)
		}
	}
	if c.GetTLS == nil {
		return nil
	}
	t := c.GetTLS().Clone() // nil stays nil
	if t == nil && c.Cleartext {
		return errors.New("mysql: GetTLS returns no configuration, and Cleartext would show the password to the network")
	}
	if t != nil && t.ServerName == "" {
		if t.ServerName, _, err = net.SplitHostPort(cfg.Addr); err != nil {
			t.ServerName = "localhost" // a socket
		}
	}
	cfg.TLS, cfg.AllowFallbackToPlaintext = t, false
	return nil
}

// OpenDB opens the database without a Pool and without asking it anything, for parts of a program that bring their own
// statements. The caller closes it.
func (c Config) OpenDB() (*sql.DB, error) {
	connector, err := c.connector()
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// connector returns the connector of c: with the session variables of Freshet unless PlainSession is set.
func (c Config) connector() (driver.Connector, error) {
	inner := c.Connector
	if inner == nil {
		cfg, err := c.DriverConfig()
		if err != nil {
			return nil, err
		}
		if inner, err = mysql.NewConnector(cfg); err != nil {
			return nil, fmt.Errorf("mysql: make connector: %w", err)
		}
	}
	if c.PlainSession {
		return inner, nil
	}
	return sessionConnector{inner}, nil
}
