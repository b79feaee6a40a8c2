package connect

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

// redisPlace is how a Redis is reached, with the names of its settings.
type redisPlace struct {
	urlName, modeName string
	url               config.Secret
	file, mode        string
}

// Redis returns a client of the Redis that has the lanes and the shared entries.
func Redis(c config.Config) (redis.UniversalClient, error) {
	return redisClient(c, redisPlace{"redis.url", "redis.mode", c.Redis.URL, c.Redis.URLFile, c.Redis.Mode})
}

// ForeignRedis returns a client of the Redis that has other applications' keys.
func ForeignRedis(c config.Config) (redis.UniversalClient, error) {
	if c.Redis.ForeignURL == "" {
		return Redis(c)
	}
	return redisClient(c, redisPlace{"redis.foreign_url", "redis.foreign_mode", c.Redis.ForeignURL, c.Redis.ForeignURLFile, cmp.Or(c.Redis.ForeignMode, c.Redis.Mode)})
}

// redisClient never reports what is wrong with a URL in the parser's words: they may quote a password.
func redisClient(c config.Config, p redisPlace) (redis.UniversalClient, error) {
	bad := func(form string) error {
		return config.UsageError{Err: errors.New(p.urlName + " cannot be parsed; its form is " + form)}
	}
	var login func(context.Context) (string, string, error)
	if p.file != "" {
		live, err := openLogin(c.Files(), p.urlName+"_file", p.file, p.url, takeURL(p.mode))
		if err != nil {
			return nil, config.UsageError{Err: err}
		}
		login = credentials(live)
	}
	if c.Redis.PasswordCommand != "" {
		given, _, err := takeURL(p.mode)(p.url.Reveal())
		if err == nil && given.password != "" {
			err = errors.New("redis.password_command and a password in " + p.urlName + " are both set; keep one")
		}
		if err != nil {
			return nil, config.UsageError{Err: err}
		}
		login = newCommand("redis.password_command", c.Redis.PasswordCommand).credentials(given.user)
	}
	switch p.mode {
	case "", "single":
		o, err := redis.ParseURL(p.url.Reveal())
		if err != nil {
			return nil, bad("redis://user:password@host:port/db")
		}
		o.CredentialsProviderContext = login
		o.Dialer, err = redisDialer(c, o.TLSConfig, o.DialTimeout)
		return redis.NewClient(o), err
	case "sentinel":
		o, err := redis.ParseFailoverURL(p.url.Reveal())
		if err != nil || o.MasterName == "" {
			return nil, bad("redis://user:password@sentinel:port/db?master_name=name&addr=sentinel2:port")
		}
		o.CredentialsProviderContext = login
		o.Dialer, err = redisDialer(c, o.TLSConfig, o.DialTimeout)
		return redis.NewFailoverClient(o), err
	case "cluster":
		o, err := redis.ParseClusterURL(p.url.Reveal())
		if err != nil {
			return nil, bad("redis://user:password@host:port?addr=host2:port")
		}
		o.CredentialsProviderContext = login
		o.Dialer, err = redisDialer(c, o.TLSConfig, o.DialTimeout)
		return redis.NewClusterClient(o), err
	}
	return nil, config.UsageError{Err: fmt.Errorf("%s is %q; write single, sentinel or cluster", p.modeName, p.mode)}
}

// redisDialer returns what dials with the certificates that the files hold then, over the configuration of the URL; nil, the
// client's own dialer, without TLS.
func redisDialer(c config.Config, ofURL *tls.Config, timeout time.Duration) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	if ofURL == nil && !c.Redis.TLS.Enabled {
		return nil, nil
	}
	current, err := ClientTLS(c.Files(), "redis.tls", c.Redis.TLS)
	if err != nil {
		return nil, config.UsageError{Err: err}
	}
	const defaultTimeout = 5 * time.Second // the client's own
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(timeout, 0), defaultTimeout))
		defer cancel()
		t := current()
		if ofURL != nil {
			t.ServerName, t.InsecureSkipVerify = cmp.Or(t.ServerName, ofURL.ServerName), ofURL.InsecureSkipVerify
		}
		return (&tls.Dialer{NetDialer: &net.Dialer{KeepAlive: 5 * time.Minute}, Config: t}).DialContext(ctx, network, addr)
	}, nil
}
