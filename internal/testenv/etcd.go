package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// EtcdServer is an etcd that answers.
type EtcdServer struct {
	instance
	// Endpoint is its URL.
	Endpoint string
	// Token is what Call logs in with, "" for none.
	Token string
}

// StartEtcd starts an etcd for this test alone, which is skipped where there is none. Arguments are further ones of the program.
func StartEtcd(t testing.TB, args ...string) *EtcdServer {
	t.Helper()
	bin, err := program("install etcd-server", "etcd")
	if err != nil {
		Skip(t, "no etcd; make test installs it where it runs as root on Debian")
	}
	s, err := startEtcd(t.Context(), shared.launcherFor(t), bin, args)
	give(t, "etcd", err)
	s.adopt(t)
	return s
}

func startEtcd(ctx context.Context, l *launcher, bin string, args []string) (*EtcdServer, error) {
	return startTried(ctx, l, func(ctx context.Context, dir string, port int) (*EtcdServer, error) {
		peer, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		s := &EtcdServer{Endpoint: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
		s.instance = instance{
			name: "etcd", dir: dir,
			boot: func(ctx context.Context) (*Process, error) { return s.bootOwn(ctx, l, bin, args, peer) },
			wipe: func(context.Context) error { return emptyDir(filepath.Join(dir, "data")) },
		}
		return s, s.start(ctx)
	})
}

func (s *EtcdServer) bootOwn(ctx context.Context, l *launcher, bin string, args []string, peer int) (*Process, error) {
	name, among := filepath.Base(s.dir), "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(peer))
	p, err := l.start("etcd", exec.Command(bin, append(args[:len(args):len(args)],
		"--name", name, "--data-dir", filepath.Join(s.dir, "data"), "--listen-client-urls", s.Endpoint, "--advertise-client-urls", s.Endpoint,
		"--listen-peer-urls", among, "--initial-advertise-peer-urls", among, "--initial-cluster", name+"="+among,
	)...), filepath.Join(s.dir, "etcd.log"))
	if err != nil {
		return nil, err
	}
	err = p.ready(ctx, func(ctx context.Context) error {
		var out struct {
			Members []struct{ Name string }
		}
		err := s.Call(ctx, "/v3/cluster/member/list", struct{}{}, &out)
		if err == nil && (len(out.Members) != 1 || out.Members[0].Name != name) {
			return errForeign
		}
		return err
	})
	if err != nil {
		return nil, kill(p, err)
	}
	return p, nil
}

// Call sends a request to etcd's JSON gateway and decodes the answer into out.
func (s *EtcdServer) Call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if s.Token != "" {
		req.Header.Set("Authorization", s.Token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err //nolint:wrapcheck // it names the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: etcd answered %d", path, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// AwaitKey waits until a key has a value with that part, or with "" is gone.
func (s *EtcdServer) AwaitKey(t testing.TB, key, part string) {
	t.Helper()
	Eventually(t, awaitLimit, func(ctx context.Context) error {
		var out struct {
			Kvs []struct {
				Value []byte `json:"value"`
			} `json:"kvs"`
		}
		if err := s.Call(ctx, "/v3/kv/range", map[string]any{"key": []byte(key)}, &out); err != nil {
			return err
		}
		got := ""
		for _, kv := range out.Kvs {
			got = string(kv.Value)
		}
		if (part == "") != (got == "") || !strings.Contains(got, part) {
			return fmt.Errorf("%s is %q, want %q", key, got, part)
		}
		return nil
	})
}
