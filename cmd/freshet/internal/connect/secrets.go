package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/livefile"
	"github.com/freshet/freshet/internal/mysql"
)

// ClientTLS returns a function that each new connection calls for its TLS configuration, so that replaced files are used without a
// restart. prefix is the section of the settings.
func ClientTLS(files *livefile.Set, prefix string, c config.TLS) (func() *tls.Config, error) {
	authority, err := openAuthority(files, prefix+".ca_file", c.CAFile)
	if err != nil {
		return nil, err
	}
	certificate, err := openCertificate(files, prefix, c.CertFile, c.KeyFile)
	if err != nil {
		return nil, err
	}
	return func() *tls.Config {
		out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
		if authority != nil {
			out.RootCAs = authority.Get()
		}
		if certificate != nil {
			out.Certificates = []tls.Certificate{certificate.Get()}
		}
		return out
	}, nil
}

// openAuthority returns nil without a path.
func openAuthority(files *livefile.Set, setting, path string) (*livefile.Value[*x509.CertPool], error) {
	if path == "" {
		return nil, nil
	}
	return livefile.Open(files, setting, func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, fmt.Errorf("%s holds no PEM certificate", path)
		}
		return pool, nil
	}, path)
}

// openCertificate returns nil without a path.
func openCertificate(files *livefile.Set, prefix, certFile, keyFile string) (*livefile.Value[tls.Certificate], error) {
	if certFile == "" {
		return nil, nil
	}
	return livefile.Open(files, prefix+".cert_file and key_file", func(contents [][]byte) (tls.Certificate, error) {
		return tls.X509KeyPair(contents[0], contents[1])
	}, certFile, keyFile)
}

func kafkaTLS(c config.Config) (func() *tls.Config, error) {
	if !c.Kafka.TLS.Enabled {
		return nil, nil
	}
	return ClientTLS(c.Files(), "kafka.tls", c.Kafka.TLS)
}

// kafkaSASL returns how the brokers are logged in to, each time with the password that the file holds then.
func kafkaSASL(c config.Config) (kafkalog.SASL, error) {
	from := c.Kafka.SASL
	s := kafkalog.SASL{Mechanism: from.Mechanism, User: from.Username, Password: from.Password.Reveal()}
	for _, e := range from.Extensions {
		if s.Extensions == nil {
			s.Extensions = map[string]string{}
		}
		name, value, _ := strings.Cut(e, "=")
		s.Extensions[name] = value
	}
	if from.PasswordCommand != "" {
		s.Credentials = newCommand("kafka.sasl.password_command", from.PasswordCommand).credentials(from.Username)
		return s, nil
	}
	if s.Mechanism == "" || from.PasswordFile == "" {
		return s, nil
	}
	live, err := livefile.Open(c.Files(), "kafka.sasl.password_file", func(contents [][]byte) (login, error) {
		password, err := config.ReadSecret(contents[0])
		return login{from.Username, password.Reveal()}, err
	}, from.PasswordFile)
	if err != nil {
		return s, err
	}
	s.Credentials = credentials(live)
	return s, nil
}

// login is a user and a password.
type login struct{ user, password string }

// credentials has the form that clients of MySQL and Redis want.
func credentials(v *livefile.Value[login]) func(context.Context) (user, password string, err error) {
	return func(context.Context) (string, string, error) {
		l := v.Get()
		return l.user, l.password, nil
	}
}

// errRestart is what a file holds that was read again and has more changes than a process can follow.
var errRestart = errors.New("it differs from what this process was started with in more than user and password; restart the process to use it")

// openLogin opens a file that holds an address with user and password. take separates the two; now is what the process uses.
func openLogin(files *livefile.Set, setting, path string, now config.Secret, take func(string) (login, string, error)) (*livefile.Value[login], error) {
	_, rest, err := take(now.Reveal())
	if err != nil {
		return nil, err
	}
	return livefile.Open(files, setting, func(contents [][]byte) (login, error) {
		text, err := config.ReadSecret(contents[0])
		if err != nil {
			return login{}, err
		}
		l, now, err := take(text.Reveal())
		if err == nil && now != rest {
			err = errRestart
		}
		return l, err
	}, path)
}

func takeDSN(text string) (login, string, error) {
	dc, err := mysql.Config{DSN: text}.DriverConfig()
	if err != nil {
		return login{}, "", err
	}
	rest, err := gomysql.ParseDSN(text)
	if err != nil {
		return login{}, "", errors.New("the DSN cannot be parsed") // the driver's words may quote the password
	}
	rest.User, rest.Passwd = "", ""
	return login{dc.User, dc.Passwd}, rest.FormatDSN(), nil
}

// Database returns the database that a DSN names, "" if it names none or cannot be parsed.
func Database(dsn config.Secret) string {
	dc, err := gomysql.ParseDSN(dsn.Reveal())
	if err != nil {
		return ""
	}
	return dc.DBName
}

// takeURL separates the login of the Redis that is used from the rest of its URL, where a Sentinel's login stays.
func takeURL(mode string) func(text string) (login, string, error) {
	return func(text string) (login, string, error) {
		u, err := url.Parse(text)
		if err != nil {
			return login{}, "", errors.New("the URL cannot be parsed") // the parser's words may quote the password
		}
		var l login
		if q := u.Query(); mode == "sentinel" {
			l.user, l.password = q.Get("username"), q.Get("password")
			q.Del("username")
			q.Del("password")
			u.RawQuery = q.Encode()
		} else if u.User != nil {
			l.user = u.User.Username()
			l.password, _ = u.User.Password()
			u.User = nil
		}
		return l, u.String(), nil
	}
}

// place is how a database is reached. section is that of its settings.
type place struct {
	section string
	dsn     config.Secret
	file    string
	tls     config.TLS
	command string // prints the password
	clear   bool   // may send it as it is
	missing error  // without a DSN
}

// withMySQL adds to mc how the replica is reached.
func withMySQL(c config.Config, mc mysql.Config) (mysql.Config, error) {
	return withPlace(c, mc, place{"mysql", c.MySQL.DSN, c.MySQL.DSNFile, c.MySQL.TLS, c.MySQL.PasswordCommand, c.MySQL.Cleartext, errNoDSN})
}

// withPlace adds to mc how a database is reached.
func withPlace(c config.Config, mc mysql.Config, p place) (mysql.Config, error) {
	if p.dsn == "" {
		return mc, config.UsageError{Err: p.missing}
	}
	mc.DSN = p.dsn.Reveal()
	if p.file != "" {
		live, err := openLogin(c.Files(), p.section+".dsn_file", p.file, p.dsn, takeDSN)
		if err != nil {
			return mc, config.UsageError{Err: err}
		}
		mc.Credentials = credentials(live)
	}
	if p.command != "" {
		given, _, err := takeDSN(mc.DSN)
		if err == nil && given.password != "" {
			err = fmt.Errorf("%s.password_command and a password in the DSN are both set; keep one", p.section)
		}
		if err != nil {
			return mc, config.UsageError{Err: err}
		}
		mc.Credentials = newCommand(p.section+".password_command", p.command).credentials(given.user)
	}
	mc.Cleartext = p.clear
	if p.tls.Enabled {
		t, err := ClientTLS(c.Files(), p.section+".tls", p.tls)
		if err != nil {
			return mc, config.UsageError{Err: err}
		}
		mc.GetTLS = t
	}
	if _, err := mc.DriverConfig(); err != nil {
		return mc, config.UsageError{Err: err}
	}
	return mc, nil
}

// AdminTLS returns the configuration of the admin API's listener, which uses the files as they are at each handshake; nil
// without a certificate.
func AdminTLS(c config.Config) (*tls.Config, error) {
	return serverTLS(c, tls.RequireAndVerifyClientCert)
}

// ProbeTLS is AdminTLS for a listener that also answers probes, whose callers rarely have a certificate: they may show none.
func ProbeTLS(c config.Config) (*tls.Config, error) { return serverTLS(c, tls.VerifyClientCertIfGiven) }

// serverTLS takes the files of admin.tls. auth says what is asked of clients where there is an authority for them.
func serverTLS(c config.Config, auth tls.ClientAuthType) (*tls.Config, error) {
	certificate, err := openCertificate(c.Files(), "admin.tls", c.Admin.TLS.CertFile, c.Admin.TLS.KeyFile)
	if err != nil || certificate == nil {
		return nil, err
	}
	authority, err := openAuthority(c.Files(), "admin.tls.client_ca_file", c.Admin.TLS.ClientCAFile)
	if err != nil {
		return nil, err
	}
	current := func() *tls.Config {
		out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate.Get()}, NextProtos: []string{"h2", "http/1.1"}}
		if authority != nil {
			out.ClientCAs, out.ClientAuth = authority.Get(), auth
			out.SessionTicketsDisabled = true // a resumed session would not be verified by a replaced authority
		}
		return out
	}
	out := current()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current(), nil }
	return out, nil
}
