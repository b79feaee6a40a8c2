package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/livefile"
)

// apiTimeout bounds a request that is not a stream.
const apiTimeout = 40 * time.Second

// apiClient is a command's way to the admin API.
type apiClient struct {
	base  *url.URL
	token config.Secret
	http  *http.Client
}

func newAPIClient(c config.Client) (*apiClient, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usageError{errors.New("client.url is not an address of an admin API; its form is http://host:port")}
	}
	t, err := connect.ClientTLS(&livefile.Set{}, "client", config.TLS{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile})
	if err != nil {
		return nil, usageError{err}
	}
	return &apiClient{base: base, token: c.Token, http: &http.Client{Transport: &http.Transport{TLSClientConfig: t(), ForceAttemptHTTP2: true}}}, nil
}

// send makes a request; path is escaped already. The caller closes the answer's body.
func (a *apiClient) send(ctx context.Context, method, path string, body any, headers ...string) (*http.Response, error) {
	var rd io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		rd = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.base.String(), "/")+path, rd)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := a.http.Do(req)
	if err != nil {
		fix := "start it with `freshet admin` or `freshet serve`, or set client.url"
		if a.base.Scheme == "https" {
			fix += ", client.ca_file and, where it asks for certificates, client.cert_file and client.key_file"
		}
		return nil, fmt.Errorf("reach the admin API at %s: %w; %s", a.base.Host, err, fix)
	}
	if res.StatusCode >= http.StatusBadRequest {
		defer res.Body.Close()
		return nil, apiProblem(res)
	}
	return res, nil
}

// apiProblem is what the API says of a refusal.
func apiProblem(res *http.Response) error {
	var p struct {
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if json.Unmarshal(b, &p) != nil || p.Detail == "" {
		return fmt.Errorf("the admin API answers %s", res.Status)
	}
	text := p.Detail
	for _, e := range p.Errors {
		text += fmt.Sprintf("; %s: %s", e.Location, e.Message)
	}
	err := fmt.Errorf("the admin API refuses (%d): %s", res.StatusCode, text)
	if res.StatusCode == http.StatusUnauthorized {
		err = fmt.Errorf("%w; set client.token or client.token_file (FRESHET_CLIENT__TOKEN)", err)
	}
	return err
}

// call makes a request and reads its JSON answer into out, and returns the answer as it came.
func (a *apiClient) call(ctx context.Context, method, path string, body, out any, headers ...string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	res, err := a.send(ctx, method, path, body, headers...)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return bytes.TrimSpace(b), nil
}

// follow calls fn with the data of each event of a stream until it ends.
func (a *apiClient) follow(ctx context.Context, path string, fn func(data []byte) error) error {
	res, err := a.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, 8<<20)
	for sc.Scan() {
		if data, ok := bytes.CutPrefix(sc.Bytes(), []byte("data: ")); ok {
			if err := fn(data); err != nil {
				return err
			}
		}
	}
	if err := sc.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read stream: %w", err)
	}
	return nil
}

// apiCommand makes a command that talks to the admin API.
func (p *program) apiCommand(cmd *cobra.Command, run func(ctx context.Context, a *apiClient, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, _, err := p.load(cmd)
		if err != nil {
			return err
		}
		a, err := newAPIClient(l.Config.Client)
		if err != nil {
			return err
		}
		return run(cmd.Context(), a, args)
	}
	config.Bind(cmd.Flags(), "client", "log")
	return cmd
}

// printRaw prints an answer of the API as one line.
func (p *program) printRaw(raw json.RawMessage) error {
	_, err := fmt.Fprintf(p.out, "%s\n", raw)
	return err
}
