package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/livefile"
)

// healthcheckTimeout is how long a listener may take to answer: less than the limit of most supervisors, and more than the admin API
// takes for servers that hang.
const healthcheckTimeout = 4 * time.Second

func healthcheckCommand(p *program) *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "healthcheck [worker|relay|admin|serve]",
		Short: "Ask the process on this machine whether it is ready: exit code 0 or 1, and one line",
		Long: "Ask /readyz of the process that the given command runs on this machine (worker, if none is given), at the address of its settings.\n" +
			"The exit code is 0 if it is ready, also where single datasets are not applied (degraded), and else 1. It is for images and systemd.\n" +
			"A supervisor that restarts what fails asks with --live: a process that waits for MySQL is not healed by a restart.",
		Args: args(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)), ValidArgs: []string{"worker", "relay", "admin", "serve"},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthcheckTimeout)
			defer cancel()
			for _, t := range healthTargets(l.Config, append(args, "worker")[0]) {
				word, err := t.ask(ctx, l.Config, live)
				if err != nil {
					return err
				}
				fmt.Fprintf(p.out, "%s: %s\n", t.section, word)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether it lives (/livez)")
	config.Bind(cmd.Flags(), "worker.listen", "relay.listen", "admin.listen", "admin.tls", "client.cert_file", "client.key_file", "log")
	return cmd
}

// healthTarget is a listener of this machine.
type healthTarget struct {
	section, addr string
	tls           bool
}

// healthTargets are the listeners of the process that a command runs.
func healthTargets(c config.Config, command string) []healthTarget {
	encrypted := c.Admin.TLS.CertFile != ""
	worker := healthTarget{"worker", c.Worker.Listen, encrypted && !listener.Loopback(c.Worker.Listen)}
	api := healthTarget{"admin", c.Admin.Listen, encrypted}
	switch command {
	case "relay":
		return []healthTarget{{"relay", c.Relay.Listen, encrypted && !listener.Loopback(c.Relay.Listen)}}
	case "admin":
		return []healthTarget{api}
	case "serve":
		if c.Worker.Listen == "" {
			return []healthTarget{api}
		}
		return []healthTarget{worker, api}
	}
	return []healthTarget{worker}
}

// ask returns the word of a process that is well.
func (t healthTarget) ask(ctx context.Context, c config.Config, live bool) (string, error) {
	url, err := t.url(live)
	if err != nil {
		return "", err
	}
	own, err := connect.ClientTLS(&livefile.Set{}, "client", config.TLS{CertFile: c.Client.CertFile, KeyFile: c.Client.KeyFile})
	if err != nil {
		return "", usageError{err}
	}
	tc := own()
	tc.InsecureSkipVerify = true // it is this machine's own listener, whose certificate has another name; nothing secret is sent
	res, err := probe(ctx, url, tc)
	if err != nil {
		fix := ""
		if c.Admin.TLS.ClientCAFile != "" && t.section == "admin" && c.Client.CertFile == "" {
			fix = "; it asks for a certificate: set client.cert_file and client.key_file"
		}
		return "", fmt.Errorf("%s does not answer at %s: %w%s", t.section, t.addr, err, fix)
	}
	defer res.Body.Close()
	var said struct {
		Status string   `json:"status"`
		Why    []string `json:"why"`
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &said) != nil || said.Status == "" {
		return "", fmt.Errorf("%s: what listens at %s is not Freshet: it answers %s", t.section, t.addr, res.Status)
	}
	word := said.Status
	if len(said.Why) > 0 {
		word += ": " + strings.Join(said.Why, "; ")
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", t.section, word)
	}
	return word, nil
}

// url is where the listener answers on this machine.
func (t healthTarget) url(live bool) (string, error) {
	if t.addr == "" {
		return "", usageError{errors.New(t.section + ".listen is empty, so nothing can be asked; give it an address")}
	}
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil || port == "0" {
		return "", usageError{fmt.Errorf("%s.listen is %q; give host:port with a fixed port", t.section, t.addr)}
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	scheme, path := "http", "/readyz"
	if t.tls {
		scheme = "https"
	}
	if live {
		path = "/livez"
	} else if t.section == "admin" {
		path += "?role=admin"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + path, nil
}

// probe makes one request that goes through no proxy.
func probe(ctx context.Context, url string, tc *tls.Config) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	tr := &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}
	return tr.RoundTrip(req)
}
